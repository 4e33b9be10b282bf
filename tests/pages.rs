//! What the pages say is what the program does.

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::{env, fs, path::PathBuf};

use crate::harness::net::{peer_libraries, peers_dir};
use crate::harness::usherd;
use usherd::args::USAGE;

fn page(path: &str) -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

fn run(args: &[&str]) -> Output {
    Command::new(usherd())
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the daemon was built with this test")
}

/// Words of a text that are options.
fn options(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| c.is_whitespace() || ",;:[]()".contains(c));
    words.filter(|word| word.starts_with('-')).map(|word| word.trim_start_matches('-').to_owned()).collect()
}

#[test]
fn the_manual_page_has_the_options_of_the_usage_text() {
    let manual = page("docs/usherd.8");
    let in_manual: BTreeSet<String> = manual
        .lines()
        .filter_map(|line| line.strip_prefix(".It Fl "))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    assert_eq!(in_manual, options(USAGE));
}

#[test]
fn the_manual_page_has_the_files_of_the_usage_text() {
    let manual = page("docs/usherd.8");
    let words = USAGE.split(|c: char| c.is_whitespace() || ",;".contains(c));
    for file in words.map(|word| word.trim_end_matches('.')).filter(|word| word.starts_with('/')) {
        assert!(manual.contains(file), "{file}");
    }
}

#[test]
fn the_examples_are_right() {
    for example in ["contrib/usherd.conf", "boards/generic-x86_64/usherd.conf"] {
        let output = run(&["-t", "-f", example]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(said.ends_with(" 0 errors, 0 warnings\n"), "{said}");
    }
    // A program without the feature says so of their section `init`. Those of QEMU's boards start programs that are only there.
    for board in ["beaglebone-black", "raspberry-pi-zero-1", "raspberry-pi-2", "raspberry-pi-3-4-5"] {
        let output = run(&["-t", "-f", &format!("boards/{board}/usherd.conf")]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains(" 0 errors, "), "{board}: {said}");
    }
}

/// What contrib/front has for programs in front of several boards is what Debian's understand.
#[test]
fn the_files_for_balancers_are_understood_by_them() {
    let front = |name: &str| format!("{}/contrib/front/{name}", env!("CARGO_MANIFEST_DIR"));
    let peer = |path: &str| peers_dir().join(path).display().to_string();
    let module = peer("libnginx-mod-stream/usr/lib/nginx/modules/ngx_stream_module.so");
    let dir = env::temp_dir().join(format!("usherd-front-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let nginx = format!("load_module {module}; pid {}/nginx.pid;", dir.display());
    let (haproxy_conf, nginx_conf, keepalived_conf) =
        (front("haproxy.cfg"), front("nginx-stream.conf"), front("keepalived.conf"));
    let commands: [(&str, &[&str]); 3] = [
        ("haproxy/usr/sbin/haproxy", &["-c", "-f", &haproxy_conf]),
        (
            "nginx/usr/sbin/nginx",
            &["-t", "-e", "stderr", "-p", &dir.display().to_string(), "-g", &nginx, "-c", &nginx_conf],
        ),
        ("keepalived/usr/sbin/keepalived", &["-t", "-f", &keepalived_conf]),
    ];
    for (program, args) in commands {
        let mut command = Command::new(peer(program));
        let output = command.args(args).env("LD_LIBRARY_PATH", peer_libraries()).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}: run tools/peers"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {}\n{said}", output.status);
        assert!(!said.to_ascii_lowercase().contains("warn"), "{program}: {said}");
    }
    fs::remove_dir_all(&dir).expect("ours");
}

/// The lines of the fenced blocks below a mark `<!-- NAME -->`.
fn block(text: &str, name: &str) -> String {
    let (_, rest) = text.split_once(&format!("<!-- {name} -->")).expect(name);
    let (_, rest) = rest.split_once("```").expect(name);
    let (_, rest) = rest.split_once('\n').expect(name);
    let (block, _) = rest.split_once("```").expect(name);
    block.to_owned()
}

/// The README shows a file with mistakes, and what is said of it.
#[test]
fn the_readmes_mistakes_are_reported_as_it_shows() {
    let readme = page("README.md");
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("readme");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("backup.conf"), block(&readme, "mistakes")).unwrap();
    let output = Command::new(usherd()).args(["-t", "-f", "backup.conf"]).current_dir(&dir).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).replace(&format!("{}/", dir.display()), "");
    let shown = block(&readme, "reported");
    let shown: Vec<&str> = shown.lines().filter(|line| !line.starts_with('$')).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), shown);
}

/// `[text](path)` of every page leads somewhere.
#[test]
fn links_between_pages_lead_somewhere() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let roots =
        ["README.md", "CHANGELOG.md", "memory-budget.md", "tests/README.md"].map(|name| root.join(name));
    for path in docs.chain(roots).filter(|path| path.extension().is_some_and(|ext| ext == "md")) {
        let text = fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") {
                assert!(path.parent().unwrap().join(file).exists(), "{}: {link}", path.display());
            }
        }
    }
}

/// A link to a source file whose text is a `name` leads to a file that defines that name.
#[test]
fn names_are_in_the_files_they_are_linked_to() {
    let text = page("docs/life-of-a-connection.md");
    let mut count = 0;
    for (name, rest) in text.split("[`").skip(1).filter_map(|rest| rest.split_once("`](")) {
        let file = rest.split(')').next().unwrap();
        let code = page(&format!("docs/{file}"));
        let kinds = ["fn", "struct", "enum", "const", "static", "trait"];
        let defined = kinds.iter().any(|kind| {
            let definition = format!("{kind} {name}");
            code.match_indices(&definition).any(|(at, _)| {
                !code[at + definition.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
            })
        });
        let is_capacity = file.ends_with("build.rs") && code.contains(&format!("\"{name}\""));
        assert!(defined || is_capacity, "{file} has no {name}");
        count += 1;
    }
    assert!(count > 50);
}

/// What is not enforced stands in the README and in the manual page, and nothing else does.
#[test]
fn what_is_not_enforced_is_said() {
    let attributes = page("docs/attributes.md");
    let marked: BTreeSet<&str> = attributes
        .lines()
        .filter(|line| line.starts_with('|') && line.contains("(**not enforced**)"))
        .filter_map(|line| line.split('`').nth(1))
        .collect();
    let readme = page("README.md");
    let (_, list) = readme.split_once("**Not yet.**").unwrap();
    let (list, _) = list.split_once("\n\nUsers,").unwrap();
    let listed: BTreeSet<&str> =
        list.split('`').skip(1).step_by(2).filter(|word| !word.starts_with('-')).collect();
    assert_eq!(listed, marked);
    let manual = page("docs/usherd.8");
    let (_, caveats) = manual.split_once(".Sh CAVEATS").unwrap();
    let words: BTreeSet<&str> = caveats.split_whitespace().collect();
    assert!(marked.is_subset(&words), "{:?}", marked.difference(&words));
}

/// Every word that a FAIL line may have for its reason is explained, and no other.
#[test]
fn all_reasons_are_explained() {
    let code = page("src/record.rs");
    let words: BTreeSet<&str> = code
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Refusal::")?.split_once("=> \"")?.1.split('"').next())
        .collect();
    assert!(words.len() > 10, "{words:?}");
    let access = page("docs/access.md");
    let (_, reasons) = access.split_once("\n## Reasons\n").unwrap();
    let told: BTreeSet<&str> =
        reasons.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(told, words);
}
