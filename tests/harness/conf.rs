//! Texts of configuration files, and what their services run.

/// No brake on new connections, for tests that are about something else.
pub const NO_BRAKE: &str = "defaults\n{\n\tcps = 0 0\n}\n";

/// A stream service with `wait = no` and `user = root` at a port, unless `lines` say otherwise; `; ` stands between them.
/// With port 0 it is for its name or its lines to say where.
pub fn service(name: &str, port: u16, lines: &str) -> String {
    let mut all = format!("service {name}\n{{\n");
    let mut add = |key: &str, value: &str| {
        let is_given = lines.split("; ").any(|line| line.split_whitespace().next() == Some(key));
        if !is_given {
            all.push_str(&format!("\t{key} = {value}\n"));
        }
    };
    if port != 0 {
        add("type", "UNLISTED");
        add("port", &port.to_string());
    }
    add("socket_type", "stream");
    add("wait", "no");
    add("user", "root");
    for line in lines.split("; ").filter(|line| !line.is_empty()) {
        all.push_str(&format!("\t{line}\n"));
    }
    all.push_str("}\n");
    all
}

/// A built-in service at its own port; `kind` is `stream` or `dgram`.
pub fn builtin(name: &str, kind: &str) -> String {
    let wait = if kind == "dgram" { "yes" } else { "no" };
    service(name, 0, &format!("id = {name}-{kind}; type = INTERNAL; socket_type = {kind}; wait = {wait}"))
}

/// A script that gives back what it is sent.
pub const COPIES: &str = "#!/bin/sh\nexec cat\n";
/// One that says hello and ends.
pub const HELLO: &str = "#!/bin/sh\necho hello\n";
