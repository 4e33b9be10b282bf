//! Servers that were written to be started by inetd, with the clients that people use: telnet, ftp, tftp, git.

use crate::harness::*;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const NOBODY: u32 = 65534;

/// One server in the words of both grammars.
struct Service {
    name: &'static str,
    kind: &'static str,
    user: &'static str,
    server: PathBuf,
    args: &'static str,
}

impl Service {
    fn inetd(&self) -> String {
        let (proto, wait) = self.proto();
        let base = self.server.file_name().expect("a file").display();
        let (name, kind, user, args) = (self.name, self.kind, self.user, self.args);
        format!("{name} {kind} {proto} {wait} {user} {} {base} {args}\n", self.server.display())
    }

    fn xinetd(&self) -> String {
        let wait = if self.kind == "dgram" { "yes" } else { "no" };
        format!(
            "service {}\n{{\n\tsocket_type = {}\n\twait = {wait}\n\tuser = {}\n\tgroups = yes\n\
             \tserver = {}\n\tserver_args = {}\n\tflags = IPv4\n}}\n",
            self.name,
            self.kind,
            self.user,
            self.server.display(),
            self.args
        )
    }

    fn proto(&self) -> (&'static str, &'static str) {
        if self.kind == "dgram" { ("udp", "wait") } else { ("tcp", "nowait") }
    }
}

/// Runs a client against the service under every daemon and in every grammar that the daemon reads.
fn each(prepare: fn(&Net) -> Service, client: fn(&Net)) {
    let mut runs: Vec<(Subject, bool)> = vec![];
    runs.extend(xinetd_family().into_iter().map(|s| (s, true)));
    runs.extend(inetd_family().into_iter().map(|s| (s, false)));
    for (subject, xinetd) in runs {
        in_net(move |net| {
            println!("{subject:?}, {} grammar", if xinetd { "xinetd's" } else { "inetd's" });
            let service = prepare(net);
            let text = if xinetd { service.xinetd() } else { service.inetd() };
            let conf = if xinetd { Conf::Xinetd(&text) } else { Conf::Inetd(&text) };
            let port = format!("{}/{}", service.proto().0, port_of(service.name));
            let mut daemon = Daemon::start(net, subject, conf).ready(&[&port]);
            client(net);
            assert!(daemon.running());
        });
    }
}

fn port_of(name: &str) -> u16 {
    match name {
        "telnet" => 23,
        "ftp" => 21,
        "tftp" => 69,
        "git" => 9418,
        _ => panic!("{name}"),
    }
}

/// Runs a client program that gets its orders on standard input.
fn run(mut command: Command, orders: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(orders.as_bytes()).expect("orders");
    drop(stdin);
    child.wait_with_output().expect("wait")
}

fn said(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

fn directory(path: &Path, mode: u32, owner: u32) {
    std::fs::create_dir_all(path).expect("directory");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
    chown(path, Some(owner), Some(owner)).expect("owner");
}

/// Something larger than any buffer on the way, with every byte value.
fn payload() -> Vec<u8> {
    (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

// ---- tftp: a wait datagram server ----

#[test]
fn tftp() {
    each(
        |net| {
            let root = net.dir().join("tftp");
            directory(&root, 0o755, NOBODY);
            net.write("tftp/image", payload());
            Service {
                name: "tftp",
                kind: "dgram",
                // It changes root and user by itself.
                user: "root",
                server: net.peer("tftpd-hpa", "usr/sbin/in.tftpd"),
                args: "-s -c -u nobody -t 2 /run/test/tftp",
            }
        },
        |net| {
            let tftp = net.peer("tftp-hpa", "usr/bin/tftp");
            for name in ["first", "second"] {
                let mut get = net.command(&tftp);
                get.args(["-m", "binary", "127.0.0.1", "-c", "get", "image", name]);
                let output = run(get, "");
                let got = std::fs::read(net.dir().join(name)).unwrap_or_default();
                assert!(got == payload(), "{} bytes; {}", got.len(), said(&output));
            }
            let mut put = net.command(&tftp);
            put.args(["-m", "binary", "127.0.0.1", "-c", "put", "first", "upload"]);
            let output = run(put, "");
            // The client is done with its last packet, the server a moment later.
            until(&format!("the whole upload: {}", said(&output)), || {
                let got = std::fs::read(net.dir().join("tftp/upload")).unwrap_or_default();
                (got == payload()).then_some(())
            });
        },
    );
}

// ---- git: a server that talks binary for a while and then ends ----

fn git() -> PathBuf {
    let path = std::env::var_os("PATH").expect("PATH");
    let found = std::env::split_paths(&path).map(|d| d.join("git")).find(|p| p.exists());
    found.expect("git is not there: apt-get install git")
}

fn git_command(net: &Net, args: &[&str]) -> Command {
    let mut command = net.command(git());
    command.args(["-c", "user.name=t", "-c", "user.email=t@example.org"]);
    // No settings of whoever runs the tests.
    command.env("HOME", net.dir()).env("GIT_CONFIG_NOSYSTEM", "1");
    command.args(args);
    command
}

#[test]
fn git_daemon() {
    each(
        |net| {
            net.write("work.txt", payload());
            for args in [
                &["init", "-q", "git/repo"][..],
                &["-C", "git/repo", "--work-tree", "/run/test", "add", "/run/test/work.txt"],
                &["-C", "git/repo", "commit", "-q", "-m", "one"],
            ] {
                let output = run(git_command(net, args), "");
                assert!(output.status.success(), "{args:?}: {}", said(&output));
            }
            // The server refuses repositories of others.
            let status = Command::new("chown").args(["-R", "nobody", "/run/test/git"]).status();
            assert!(status.expect("chown").success());
            Service {
                name: "git",
                kind: "stream",
                user: "nobody",
                server: git(),
                args: "daemon --inetd --export-all --base-path=/run/test/git",
            }
        },
        |net| {
            let output = run(git_command(net, &["clone", "-q", "git://127.0.0.1/repo", "clone"]), "");
            let got = std::fs::read(net.dir().join("clone/work.txt")).unwrap_or_default();
            assert!(got == payload(), "{} bytes; {}", got.len(), said(&output));
            let output = run(git_command(net, &["ls-remote", "git://127.0.0.1/repo"]), "");
            assert!(said(&output).contains("HEAD"), "{}", said(&output));
            let output = run(git_command(net, &["ls-remote", "git://127.0.0.1/nothing"]), "");
            assert!(!output.status.success());
        },
    );
}

// ---- telnet: a server that needs a terminal of its own ----

#[test]
fn telnet() {
    each(
        |net| {
            net.script(
                "session",
                "#!/bin/sh\ntest -t 0 && echo on a terminal\necho who?\nread name\necho \"hello, $name\"\nread rest\n",
            );
            Service {
                name: "telnet",
                kind: "stream",
                user: "root",
                server: net.peer("inetutils-telnetd", "usr/sbin/telnetd"),
                args: "-h --exec-login=/run/test/session",
            }
        },
        |net| {
            let mut client = net.command(net.peer("inetutils-telnet", "usr/bin/inetutils-telnet"));
            client.args(["-c", "-E", "127.0.0.1"]);
            client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
            let mut child = client.spawn().expect("telnet");
            let mut stdin = child.stdin.take().expect("piped");
            let mut stdout = child.stdout.take().expect("piped");
            // Like a person: read the question, then answer it. The client ends at the end of its input, so that
            // stays open; its own time limit ends the reading.
            let mut all = String::new();
            let mut part = [0; 1024];
            // The server leaves as soon as its program ends, with what that said last still in the terminal; so the
            // program is kept until all is read.
            while !all.contains("hello, alice\r\n")
                && let Ok(n @ 1..) = stdout.read(&mut part)
            {
                let asked = all.contains("who?");
                all.push_str(&text(&part[..n]));
                if !asked && all.contains("who?") {
                    stdin.write_all(b"alice\n").expect("send");
                }
            }
            drop(stdin);
            drop(stdout);
            child.wait().expect("wait");
            for line in ["on a terminal", "who?", "hello, alice"] {
                assert!(all.contains(line), "no {line:?} in {all}");
            }
        },
    );
}

// ---- ftp: a server that opens and takes further connections ----

#[test]
fn ftp() {
    each(
        |net| {
            directory(&net.dir().join("ftp"), 0o755, 0);
            directory(&net.dir().join("ftp/incoming"), 0o777, 1300);
            net.write("ftp/image", payload());
            net.write("/etc/ftpusers", "root\n");
            net.write("/etc/shells", "/bin/sh\n");
            Service {
                name: "ftp",
                kind: "stream",
                user: "root",
                server: net.peer("inetutils-ftpd", "usr/sbin/ftpd"),
                args: "-A --auth=default",
            }
        },
        |net| {
            let ftp = net.peer("inetutils-ftp", "usr/bin/inetutils-ftp");
            for mode in ["--active", "--passive"] {
                let mut client = net.command(&ftp);
                client.args(["-n", "-v", "-i", mode, "127.0.0.1"]);
                let orders = format!(
                    "user anonymous t@example.org\nbinary\nget image got{mode}\ncd incoming\n\
                     put got{mode} put{mode}\nquit\n"
                );
                let output = run(client, &orders);
                for path in [format!("got{mode}"), format!("ftp/incoming/put{mode}")] {
                    let got = std::fs::read(net.dir().join(&path)).unwrap_or_default();
                    assert!(got == payload(), "{path}: {} bytes; {}", got.len(), said(&output));
                }
            }
        },
    );
}
