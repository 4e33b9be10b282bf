//! The steps that every tutorial about super-servers takes: a name in the services file, a small file for the
//! service, a reload, and a program that never heard of sockets serves the network.

use crate::harness::*;
use std::io::Write;
use std::path::PathBuf;

/// A program without a socket call in it: it reads lines and writes them.
const SERVER: &str = "#!/bin/sh\nwhile IFS= read -r line; do printf '%s\\n' \"$line\"; done\n";

const XINETD_CONF: &str = "\
# Simple configuration file for xinetd

defaults
{
}

includedir /etc/xinetd.d
";

/// A service that is there from the start, so that the daemon has something to do.
const DAYTIME: &str = "\
service daytime
{
	disable		= no
	type		= INTERNAL
	id		= daytime-stream
	socket_type	= stream
	protocol	= tcp
	user		= root
	wait		= no
}
";

const MYECHO: &str = "\
service myecho_serv
{
	disable		= no
	socket_type	= stream
	protocol	= tcp
	user		= nobody
	wait		= no
	server		= /run/test/myecho_serv
}
";

const MYECHO_UDP: &str = "\
service myecho_serv
{
	disable		= no
	id		= myecho_serv-dgram
	socket_type	= dgram
	protocol	= udp
	user		= nobody
	wait		= yes
	server		= /run/test/udpecho
}
";

fn talk(to: &str) {
    // A client that waits for each answer, as a person does...
    let mut client = tcp(to);
    round_trip(&mut client, b"hello, world\n");
    round_trip(&mut client, b"  blanks and \\ stay  \n");
    // ... another one meanwhile, and one that sends all and ends.
    round_trip(&mut tcp(to), b"me too\n");
    let answer = ask_tcp(to, b"one\ntwo\nthree\n");
    assert_eq!(text(&answer), "one\ntwo\nthree\n");
    round_trip(&mut client, b"bye\n");
    drop(client);
}

fn talk_udp(to: &str) {
    for question in ["hello", "hello again", "bye"] {
        assert_eq!(text(&ask_udp(to, question.as_bytes())), question);
    }
}

#[test]
fn a_service_by_xinetd_d() {
    in_net(|net| {
        for subject in xinetd_family() {
            net.write("/etc/xinetd.conf", XINETD_CONF);
            net.write("/etc/xinetd.d/daytime", DAYTIME);
            let services = std::fs::read("/etc/services").expect("services");
            let mut daemon =
                Daemon::start_with(net, subject, PathBuf::from("/etc/xinetd.conf"), &[]).ready(&["tcp/13"]);
            assert!(refused("127.0.0.1:9901"));

            net.script("myecho_serv", SERVER);
            net.append("/etc/services", "myecho_serv 9901/tcp\nmyecho_serv 9901/udp\n");
            net.write("/etc/xinetd.d/myecho_serv", MYECHO);
            daemon.signal(libc::SIGHUP);
            daemon.wait_open("tcp/9901");
            talk("127.0.0.1:9901");
            talk("[::1]:9901");

            net.write("/etc/xinetd.d/myecho_serv-udp", MYECHO_UDP);
            daemon.signal(libc::SIGHUP);
            daemon.wait_open("udp/9901");
            talk_udp("127.0.0.1:9901");
            talk("127.0.0.1:9901");

            // And off again, without harm to who is being served.
            let mut served = tcp("127.0.0.1:9901");
            round_trip(&mut served, b"before\n");
            net.write("/etc/xinetd.d/myecho_serv-udp", MYECHO_UDP.replace("= no\n", "= yes\n"));
            daemon.signal(libc::SIGHUP);
            daemon.wait_closed("udp/9901");
            round_trip(&mut served, b"after\n");
            assert!(daemon.running());

            for name in ["/etc/xinetd.d/myecho_serv", "/etc/xinetd.d/myecho_serv-udp"] {
                std::fs::remove_file(name).expect("remove");
            }
            net.write("/etc/services", services);
        }
    });
}

#[test]
fn a_service_by_inetd_conf() {
    in_net(|net| {
        for subject in inetd_family() {
            let services = std::fs::read("/etc/services").expect("services");
            let first = "daytime stream tcp nowait root internal\n";
            let conf = net.write("/etc/inetd.conf", first);
            let mut daemon = Daemon::start_with(net, subject, conf, &[]).ready(&["tcp/13"]);
            assert!(refused("127.0.0.1:9901"));

            net.script("myecho_serv", SERVER);
            net.append("/etc/services", "myecho_serv 9901/tcp\nmyecho_serv 9901/udp\n");
            let tcp_line = "myecho_serv stream tcp nowait nobody /run/test/myecho_serv myecho_serv\n";
            daemon.reload(&format!("{first}{tcp_line}"));
            daemon.wait_open("tcp/9901");
            talk("127.0.0.1:9901");

            let udp_line = "myecho_serv dgram udp wait nobody /run/test/udpecho udpecho\n";
            daemon.reload(&format!("{first}{tcp_line}{udp_line}"));
            daemon.wait_open("udp/9901");
            talk_udp("127.0.0.1:9901");

            let mut served = tcp("127.0.0.1:9901");
            round_trip(&mut served, b"before\n");
            daemon.reload(first);
            daemon.wait_closed("tcp/9901");
            round_trip(&mut served, b"after\n");
            served.write_all(b"").expect("send");
            assert!(daemon.running());
            net.write("/etc/services", services);
        }
    });
}
