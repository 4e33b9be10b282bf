//! Transcripts: what one configuration showed to the outside, one fact per line. The same test gives one transcript
//! per daemon; they must be equal but for the differences that are written down with their reasons.

use super::Subject;

/// A difference on purpose. It holds for the rows named; a `*` at the end of a name stands for any rest.
pub struct Difference {
    pub rows: &'static [&'static str],
    /// Lines that begin so...
    pub line: &'static str,
    /// ... become this before the comparison; an empty text removes them.
    pub becomes: &'static str,
    /// In whose transcript.
    pub of: Subject,
    pub why: &'static str,
}

/// Checks that a transcript holds these lines, and none that begins with a `!` entry.
pub fn expect(row: &str, subject: Subject, transcript: &str, lines: &[&str]) {
    let mut wrong = vec![];
    for line in lines {
        match line.strip_prefix('!') {
            Some(no) if transcript.lines().any(|l| l.starts_with(no)) => {
                wrong.push(format!("unwanted: {no}"))
            }
            None if !transcript.lines().any(|l| l == *line) => wrong.push(format!("missing: {line}")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{row} with {subject:?}:\n{}\nin\n{transcript}", wrong.join("\n"));
}

/// Compares two daemons' transcripts of one row.
pub fn compare(row: &str, a: (Subject, &str), b: (Subject, &str), differences: &[Difference]) {
    let (x, y) = (apply(row, a, differences), apply(row, b, differences));
    let only = |these: &[String], those: &[String], sign| {
        let mut lines = vec![];
        for line in these.iter().filter(|l| !those.contains(l)) {
            lines.push(format!("{sign} {line}"));
        }
        lines
    };
    let mut diff = only(&x, &y, '-');
    diff.extend(only(&y, &x, '+'));
    if diff.is_empty() && x != y {
        diff.push(format!("the same lines in another order:\n{x:?}\n{y:?}"));
    }
    assert!(diff.is_empty(), "{row}: {:?} (-) and {:?} (+) differ:\n{}", a.0, b.0, diff.join("\n"));
}

/// What a line of an older daemon becomes in ours.
pub fn translate(row: &str, line: &str, differences: &[Difference]) -> String {
    let mut line = line.to_owned();
    for subject in [Subject::Xinetd, Subject::OpenbsdInetd] {
        line = apply(row, (subject, &line), differences).pop().unwrap_or_default();
    }
    line
}

fn apply(row: &str, (subject, transcript): (Subject, &str), differences: &[Difference]) -> Vec<String> {
    let mut lines: Vec<String> = transcript.lines().map(str::to_owned).collect();
    for d in differences.iter().filter(|d| d.of == subject) {
        let meant = |pattern: &&str| match pattern.strip_suffix('*') {
            Some(start) => row.starts_with(start),
            None => row == *pattern,
        };
        if !d.rows.iter().any(meant) {
            continue;
        }
        for line in &mut lines {
            if let Some(rest) = line.strip_prefix(d.line) {
                // A text that ends in an equal sign or a blank keeps what followed; any other replaces the line.
                *line = match d.becomes {
                    t if t.ends_with(['=', ' ']) => format!("{t}{rest}"),
                    t => t.to_owned(),
                };
            }
        }
        lines.retain(|l| !l.is_empty());
    }
    lines
}
