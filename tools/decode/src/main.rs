//! `usherd-decode`: prints what frames say.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, panic, thread};

use usherd_decode::{Item, Program, Stream};

const USAGE: &str = "\
usage: usherd-decode ELF... FILE...

Prints what the frames of defmt in each FILE say, one line each: time, level, text. A FILE is what a board wrote on its
serial line, or what `usherd -recorder FILE` wrote; of the latter FILE.old, if there is one, is printed first, since it is
the older half. `-` is standard input, and a line is printed as soon as it is there: a serial line can be followed.

ELF is the program that wrote the frames, as it was built: with its symbols. `strip` takes them, so what is installed may be
a stripped copy of it. The frames of a recorder say which build they are from; where a file has those of several, give all of
their programs.

Exit status: 0 if all was understood; 1 if there was nothing to decode with, or a file could not be read; 3 if something was
no frame, or of a build that was not given. Such pieces are told, and what follows them is printed.
";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    // What the decoder panics of is damage, and told as such.
    panic::set_hook(Box::new(|_| {}));
    // It goes deeper into a frame than into what any program writes, if the frame is damage.
    let worker = thread::Builder::new().stack_size(256 << 20).spawn(move || run(&words));
    match worker.map(|worker| worker.join()) {
        Ok(Ok(Ok(true))) => ExitCode::SUCCESS,
        Ok(Ok(Ok(false))) => ExitCode::from(3),
        Ok(Ok(Err(problem))) => {
            eprintln!("usherd-decode: {problem}");
            ExitCode::FAILURE
        }
        _ => ExitCode::FAILURE,
    }
}

/// Whether all was understood.
fn run(words: &[String]) -> Result<bool, String> {
    let mut programs = Vec::new();
    let mut files = Vec::new();
    for word in words {
        if word != "-" && is_elf(word)? {
            let elf = fs::read(word).map_err(|error| format!("{word}: {error}"))?;
            programs.push(Program::new(elf).map_err(|error| format!("{word}: {error}"))?);
        } else {
            files.push(word.as_str());
        }
    }
    if files.is_empty() {
        return Err("nothing to decode (try --help)".to_owned());
    }
    let mut is_understood = true;
    for name in files {
        let mut stream = Stream::new(&programs).map_err(|error| error.to_string())?;
        let mut found = |item: Item| {
            is_understood &= !matches!(item, Item::Damage(_) | Item::Unknown);
            writeln!(io::stdout(), "{item}")
        };
        let older = format!("{name}.old");
        if name == "-" {
            read(&mut stream, &mut io::stdin(), &mut found)?;
        } else {
            for name in
                [older.as_str(), name].into_iter().filter(|name| *name != older || Path::new(name).exists())
            {
                let mut file = File::open(name).map_err(|error| format!("{name}: {error}"))?;
                read(&mut stream, &mut file, &mut found).map_err(|error| format!("{name}: {error}"))?;
            }
        }
    }
    Ok(is_understood)
}

fn is_elf(path: &str) -> Result<bool, String> {
    let mut magic = Vec::new();
    let file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
    file.take(4).read_to_end(&mut magic).map_err(|error| format!("{path}: {error}"))?;
    Ok(magic == b"\x7fELF")
}

/// Up to the end of one file.
fn read(
    stream: &mut Stream<'_>,
    from: &mut impl Read,
    found: &mut impl FnMut(Item) -> io::Result<()>,
) -> Result<(), String> {
    let mut bytes = [0; 4096];
    let mut written = Ok(());
    let mut write = |item| {
        if written.is_ok() {
            written = found(item);
        }
    };
    loop {
        match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(n) => stream.take(&bytes[..n], &mut write),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    stream.finish(&mut write);
    // Whoever reads our output may have seen enough.
    written.or_else(
        |error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error.to_string()) },
    )
}
