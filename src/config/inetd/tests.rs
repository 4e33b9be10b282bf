//! One test per dialect and per rule where they disagree; the corpus; and a storm of broken lines.

extern crate std;

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::*;

/// The findings of a line, each as `column weight what`.
fn findings(text: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut from = 0;
    loop {
        let parsed = parse(text, from, &mut |problem| {
            assert!(!problem.cure().to_string().is_empty());
            found.push(format!("{} {:?} {}", problem.column, problem.weight(), problem.what()));
        });
        from = parsed.next;
        if from >= text.len() {
            return found;
        }
    }
}

/// The record of a line without any finding.
#[track_caller]
fn record(text: &str) -> Record<'_> {
    assert_eq!(findings(text.as_bytes()), Vec::<String>::new(), "{text}");
    noted(text)
}

/// The record of a line that may have notes and warnings.
#[track_caller]
fn noted(text: &str) -> Record<'_> {
    match parse(text.as_bytes(), 0, &mut |_| {}).line {
        Line::Record(record) => record,
        other => panic!("{text}: {other:?} {:?}", findings(text.as_bytes())),
    }
}

/// The findings of a line that must not become a record.
#[track_caller]
fn broken(text: &str) -> Vec<String> {
    let line = parse(text.as_bytes(), 0, &mut |_| {}).line;
    assert!(matches!(line, Line::Broken(_)), "{text}: {line:?}");
    let found = findings(text.as_bytes());
    assert!(found.iter().any(|f| f.contains(" Error ")), "{text}: {found:?}");
    found
}

fn words(args: Words<'_>) -> Vec<String> {
    args.map(|word| {
        let mut buf = [0; 256];
        let len = word.copy_to(&mut buf).unwrap();
        assert_eq!(len, word.len());
        String::from_utf8(buf[..len].to_vec()).unwrap()
    })
    .collect()
}

fn path(record: &Record<'_>) -> String {
    match record.program {
        Program::Path(word) => String::from_utf8(word.bytes().collect()).unwrap(),
        Program::Internal { .. } => "internal".to_string(),
    }
}

fn addresses<'a>(record: &Record<'a>) -> Vec<Address<'a>> {
    record.addresses.unwrap().iter().map(|at| at.value).collect()
}

fn service(first: &str) -> Service<'_> {
    let text: &'static str =
        std::boxed::Box::leak(format!("{first} stream tcp nowait root /x x").into_boxed_str());
    record(text).service.value
}

fn v4(text: &str) -> Address<'static> {
    Address::Ip(text.parse().unwrap())
}

mod fields {
    use super::*;

    #[test]
    fn a_record_has_its_fields_and_their_columns() {
        let r = record("ftp\tstream\ttcp\tnowait\troot\t/usr/libexec/ftpd\tftpd -l");
        assert_eq!(r.service, At { column: 1, value: Service::Name(b"ftp") });
        assert_eq!(r.socket, At { column: 5, value: Socket::Stream });
        let tcp = Protocol { transport: Transport::Tcp, family: Family::Unsaid, rpc: false };
        assert_eq!(r.protocol, At { column: 12, value: tcp });
        assert_eq!(r.wait, At { column: 16, value: false });
        assert_eq!(r.account.unwrap().user, At { column: 23, value: &b"root"[..] });
        assert_eq!(path(&r), "/usr/libexec/ftpd");
        assert_eq!(words(r.args), ["ftpd", "-l"]);
        assert_eq!(r.args.map(|word| word.column).collect::<Vec<_>>(), [46, 51]);
        assert!(r.enabled && r.addresses.is_none() && r.limits == Limits::default());
        let r = record("echo dgram udp wait root internal");
        assert!(matches!(r.program, Program::Internal { column: 26 }));
        assert!(r.wait.value);
        assert_eq!(r.args.count(), 0);
        assert_eq!(record("x stream tcp nowait root /bin/x").args.count(), 0);
    }

    #[test]
    fn services_are_names_ports_and_the_rest() {
        assert_eq!(service("21"), Service::Port(21));
        assert_eq!(service("65535"), Service::Port(65535));
        assert_eq!(service("tcpmux/name"), Service::Mux { name: b"name", plus: false });
        assert_eq!(service("tcpmux/+name"), Service::Mux { name: b"name", plus: true });
        assert_eq!(service("tcpmux"), Service::Name(b"tcpmux"));
        assert_eq!(broken("0 stream tcp nowait root /x"), ["1 Error `0` is not a port"]);
        assert_eq!(broken("70000 stream tcp nowait root /x"), ["1 Error `70000` is not a port"]);
        assert_eq!(broken("+40253 stream tcp nowait root /x"), ["1 Error `+40253` is not a port"]);
        assert_eq!(
            broken("a:99999999999 stream tcp nowait root /x"),
            ["3 Error `99999999999` is not a port"]
        );
        assert_eq!(
            broken("tcpmux/+ stream tcp nowait root /x"),
            ["1 Error the name of the tcpmux service is empty"]
        );
        assert_eq!(
            broken("tcpmux/a dgram udp wait root /x"),
            ["1 Error a tcpmux service that is not stream tcp"]
        );
    }

    #[test]
    fn rpc_services_need_versions_and_versions_rpc() {
        let r = record("rstatd/1-3 dgram rpc/udp wait root /usr/libexec/rpc.rstatd rpc.rstatd");
        assert_eq!(r.service.value, Service::Rpc { name: b"rstatd", low: 1, high: 3 });
        assert!(r.protocol.value.rpc);
        let r = record("walld/7 dgram rpc/udp wait root /x x");
        assert_eq!(r.service.value, Service::Rpc { name: b"walld", low: 7, high: 7 });
        assert_eq!(broken("a/3-1 dgram rpc/udp wait root /x"), ["3 Error `3-1` is not an RPC version"]);
        assert_eq!(broken("a/ dgram rpc/udp wait root /x"), ["3 Error `` is not an RPC version"]);
        assert_eq!(broken("a dgram rpc/udp wait root /x"), ["1 Error an RPC service without a version"]);
        assert_eq!(
            broken("a/1 dgram udp wait root /x"),
            ["11 Error a version, but the protocol is not an RPC one"]
        );
    }

    #[test]
    fn addresses_end_at_the_last_colon() {
        let text = "127.0.0.1,host,[::1],::1,*:25 stream tcp nowait root /x";
        let r = record(text);
        let six = Address::Ip("::1".parse().unwrap());
        assert_eq!(addresses(&r), [v4("127.0.0.1"), Address::Name(b"host"), six, six, Address::Any]);
        let columns: Vec<u32> = r.addresses.unwrap().iter().map(|at| at.column).collect();
        assert_eq!(columns, [1, 11, 16, 22, 26]);
        assert_eq!(r.service, At { column: 28, value: Service::Port(25) });
        assert_eq!(addresses(&record("::1:444 stream tcp nowait root /x")), [six]);
        assert_eq!(addresses(&record(":444 stream tcp nowait root /x")), [Address::Any]);
        assert_eq!(addresses(&record("10.0.0.1: 444 stream tcp nowait root /x")), [v4("10.0.0.1")]);
        let scoped = Address::Scoped("fe80::1".parse().unwrap(), b"eth0");
        assert_eq!(addresses(&record("[fe80::1%eth0]:444 stream tcp nowait root /x")), [scoped]);
        assert_eq!(broken("a,,b:1 stream tcp nowait root /x"), ["3 Error an empty address in the list"]);
        for bad in ["127.0.0.256", "[::1", "[127.0.0.1]", "1::2::3", "a[b", "fe80::1%", "*x"] {
            let line = format!("{bad}:1 stream tcp nowait root /x");
            assert_eq!(broken(&line), [format!("1 Error `{bad}` is not an address")]);
        }
        assert_eq!(broken("127.0.0.1: stream tcp nowait root /x"), ["10 Error the service name is missing"]);
        assert_eq!(broken("a: b:c stream tcp nowait root /x"), ["4 Error the addresses are given twice"]);
    }

    #[test]
    fn an_address_alone_is_the_default_for_the_lines_below() {
        let Line::DefaultAddress(list) = parse(b"127.0.0.1,10.157.x.x:", 0, &mut |_| {}).line else {
            panic!()
        };
        let list: Vec<_> = list.iter().map(|at| at.value).collect();
        assert_eq!(list, [v4("127.0.0.1"), Address::Name(b"10.157.x.x")]);
        let Line::DefaultAddress(list) = parse(b"*:\r", 0, &mut |_| {}).line else { panic!() };
        assert_eq!(list.iter().next().unwrap().value, Address::Any);
        assert_eq!(broken("127.0.0:"), ["1 Error `127.0.0` is not an address"]);
    }

    #[test]
    fn unix_sockets_have_paths_and_freebsd_owners() {
        let r = record("/var/www/run/rsysd.sock stream unix nowait rsysd /usr/local/sbin/rsysd");
        assert_eq!(r.service.value, Service::Path { path: b"/var/www/run/rsysd.sock", node: None });
        assert_eq!(r.protocol.value.transport, Transport::Unix);
        let r = record(":news:mail:0660:/run/a:b stream unix nowait root /x");
        let Service::Path { path: b"/run/a:b", node: Some(node) } = r.service.value else { panic!("{r:?}") };
        assert_eq!(node.user, Some(At { column: 2, value: &b"news"[..] }));
        assert_eq!(node.group, Some(At { column: 7, value: &b"mail"[..] }));
        assert_eq!(node.mode, Some(At { column: 12, value: 0o660 }));
        let r = record("::::/run/a stream unix nowait root /x");
        let empty = Node { user: None, group: None, mode: None };
        assert_eq!(r.service.value, Service::Path { path: b"/run/a", node: Some(empty) });
        assert_eq!(broken(":a:b:0999:/r stream unix nowait root /x"), ["6 Error `0999` is not a mode"]);
        assert_eq!(
            broken(":a:0600:/r stream unix nowait root /x"),
            ["1 Error owner and mode of a unix socket are not complete"]
        );
        assert_eq!(broken("/r stream tcp nowait root /x"), ["11 Error a path, but the protocol is not unix"]);
        assert_eq!(
            broken("r stream unix nowait root /x"),
            ["1 Error protocol unix, but the service is not an absolute path"]
        );
        assert_eq!(findings(b"*:/r stream unix nowait root /x"), ["1 Warning a unix socket has no address"]);
    }

    #[test]
    fn socket_types() {
        for (word, socket) in [
            ("raw", Socket::Raw),
            ("rdm", Socket::Rdm),
            ("seqpacket", Socket::Seqpacket),
            ("stream", Socket::Stream),
        ] {
            let line = format!("/r {word} unix nowait root /x");
            assert_eq!(record(&line).socket.value, socket);
        }
        let r = record("a stream,10 tcp nowait root /x");
        assert_eq!(r.limits.accepts, Some(At { column: 10, value: 10 }));
        assert_eq!(
            findings(b"a stream:dataready tcp nowait root /x"),
            ["10 Warning an accept filter has no effect here"]
        );
        assert_eq!(broken("a stream,0 tcp nowait root /x"), ["10 Error `0` is not a number this can be"]);
        assert_eq!(broken("a strem tcp nowait root /x"), ["3 Error `strem` is not a socket type"]);
        assert_eq!(
            broken("a stream udp4 nowait root /x"),
            ["10 Error socket type stream does not go with udp"]
        );
        assert_eq!(broken("a dgram tcp wait root /x"), ["9 Error socket type dgram does not go with tcp"]);
    }

    #[test]
    fn protocols_and_their_families() {
        let family = |word: &str| noted(&format!("a stream {word} nowait root /x")).protocol.value.family;
        assert_eq!(family("tcp"), Family::Unsaid);
        assert_eq!(family("tcp4"), Family::V4);
        assert_eq!(family("tcp6"), Family::V6);
        assert_eq!(family("tcp6only"), Family::V6);
        assert_eq!(family("tcp46"), Family::Dual);
        assert_eq!(noted("a dgram udp6 wait root /x").protocol.value.family, Family::V6);
        assert_eq!(findings(b"a stream tcp6 nowait root /x"), ["10 Note this is IPv6 alone"]);
        assert_eq!(findings(b"a stream tcp6only nowait root /x"), Vec::<String>::new());
        assert_eq!(findings(b"a stream tcp/ttcp nowait root /x"), ["10 Warning `/ttcp` has no effect here"]);
        for word in ["tcp/faith", "faith/tcp", "tcp6/faith"] {
            let line = format!("a stream {word} nowait root /x");
            assert_eq!(broken(&line), ["10 Error there is no IPv6-to-IPv4 translation (faith) here"]);
        }
        for word in ["xyz", "tcp5", "sctp", "unix4", "rpc/unix", "udp/ttcp", "TCP"] {
            let line = format!("a stream {word} nowait root /x");
            assert_eq!(broken(&line), [format!("10 Error `{word}` is not a protocol")]);
        }
    }

    #[test]
    fn buffer_sizes_follow_the_protocol() {
        let r = record("a stream tcp,sndbuf=16k,rcvbuf=1m nowait root /x");
        assert_eq!(r.send_buffer, Some(At { column: 21, value: 16384 }));
        assert_eq!(r.receive_buffer, Some(At { column: 32, value: 1048576 }));
        assert_eq!(
            broken("a stream tcp,sndbuf=2048m,sndbuf=1,x,rcvbuf nowait root /x"),
            [
                "21 Error `2048m` is not a size",
                "36 Error `x` is neither sndbuf=SIZE nor rcvbuf=SIZE",
                "38 Error `rcvbuf` is neither sndbuf=SIZE nor rcvbuf=SIZE",
            ]
        );
        assert_eq!(
            broken("a stream tcp,sndbuf=1,sndbuf=1 nowait root /x"),
            ["23 Error `sndbuf` is given twice"]
        );
    }

    #[test]
    fn the_wait_field_of_every_dialect() {
        let line = |word: &str| format!("a stream tcp {word} root /x");
        let limits = |word: &str| {
            let r = record(std::boxed::Box::leak(line(word).into_boxed_str()));
            let value = |at: Option<At<u32>>| at.map(|at| at.value);
            let l = r.limits;
            (
                r.wait.value,
                value(l.per_minute),
                value(l.children),
                value(l.per_minute_source),
                value(l.children_source),
            )
        };
        assert_eq!(limits("nowait"), (false, None, None, None, None));
        assert_eq!(limits("nowait.40"), (false, Some(40), None, None, None));
        assert_eq!(limits("wait.40"), (true, Some(40), None, None, None));
        assert_eq!(limits("nowait:40"), (false, Some(40), None, None, None));
        assert_eq!(limits("nowait/5"), (false, None, Some(5), None, None));
        assert_eq!(limits("nowait/5/30/2"), (false, None, Some(5), Some(30), Some(2)));
        assert_eq!(limits("wait/0/0"), (true, None, Some(0), Some(0), None));
        for junk in
            ["nowiat", "no", "waits", "", "NOWAIT", "wait/1/2/3/4"].into_iter().filter(|w| !w.is_empty())
        {
            assert_eq!(broken(&line(junk)), [format!("14 Error `{junk}` is neither wait nor nowait")]);
        }
        assert_eq!(broken(&line("nowait.x")), ["21 Error `x` is not a number this can be"]);
        assert_eq!(broken(&line("nowait.")), ["21 Error `` is not a number this can be"]);
        assert_eq!(broken(&line("nowait.40/5")), ["21 Error `40/5` is not a number this can be"]);
        assert_eq!(broken(&line("nowait.0")), ["21 Error 0 starts a minute"]);
        assert_eq!(broken(&line("nowait/40000")), ["21 Error more than 32767 servers at one time"]);
        assert_eq!(
            broken(&line("nowait//b")),
            ["21 Error `` is not a number this can be", "22 Error `b` is not a number this can be"]
        );
    }

    #[test]
    fn users_groups_and_classes() {
        let account = |word: &str| {
            let line = std::boxed::Box::leak(format!("a stream tcp nowait {word} /x").into_boxed_str());
            record(line).account.unwrap()
        };
        let text = |at: At<&[u8]>| (at.column, String::from_utf8(at.value.to_vec()).unwrap());
        let a = account("saned:scanner/daemon");
        assert_eq!(text(a.user), (21, "saned".into()));
        assert_eq!(text(a.group.unwrap()), (27, "scanner".into()));
        assert_eq!(text(a.class.unwrap()), (35, "daemon".into()));
        assert_eq!(a.dotted, None);
        let a = account("first.last.tty");
        assert_eq!(text(a.user), (21, "first.last.tty".into()));
        assert_eq!((a.group, a.class), (None, None));
        let dotted = a.dotted.unwrap();
        assert_eq!((text(dotted.user), text(dotted.group)), ((21, "first.last".into()), (32, "tty".into())));
        let a = account("first.last:tty");
        assert_eq!((text(a.user).1.as_str(), a.dotted), ("first.last", None));
        for bad in ["root:", ":wheel", "root:a:b", "root/", "root/a/b"] {
            let line = format!("a stream tcp nowait {bad} /x");
            assert_eq!(broken(&line), [format!("21 Error `{bad}` is not USER, USER:GROUP or USER.GROUP")]);
        }
    }

    #[test]
    fn missing_fields_are_named() {
        assert_eq!(broken("a stream tcp nowait root"), ["24 Error the program is missing"]);
        assert_eq!(
            broken("a stream"),
            [
                "8 Error the protocol is missing",
                "8 Error the wait or nowait is missing",
                "8 Error the user is missing",
                "8 Error the program is missing",
            ]
        );
        assert_eq!(broken("a").len(), 5);
        // One left out in the middle.
        assert_eq!(broken("a tcp nowait root /bin/x x"), ["3 Error the socket type is missing"]);
        assert_eq!(broken("a stream nowait root /bin/x x"), ["10 Error the protocol is missing"]);
        assert_eq!(broken("a stream tcp root /bin/x x"), ["14 Error the wait or nowait is missing"]);
        assert_eq!(broken("a stream tcp nowait /bin/x x"), ["21 Error the user is missing"]);
        assert_eq!(broken("echo stream tcp nowait internal"), ["24 Error the user is missing"]);
    }

    #[test]
    fn every_problem_of_a_line_is_found() {
        assert_eq!(
            broken("a,,:0 strem xyz nowiat root:  bin/x"),
            [
                "7 Error `strem` is not a socket type",
                "13 Error `xyz` is not a protocol",
                "17 Error `nowiat` is neither wait nor nowait",
                "24 Error `root:` is not USER, USER:GROUP or USER.GROUP",
                "31 Warning `bin/x` is not an absolute path",
                "3 Error an empty address in the list",
                "4 Error an empty address in the list",
                "5 Error `0` is not a port",
            ]
        );
        let Line::Broken(b) = parse(b"10.0.0.1:25 stream tcp nowiat root /x", 0, &mut |_| {}).line else {
            panic!()
        };
        assert_eq!(b.service.unwrap().value, Service::Port(25));
        assert_eq!(b.socket.unwrap().value, Socket::Stream);
        assert!(b.addresses.is_some() && b.protocol.is_some());
    }
}

mod words_and_lines {
    use super::*;

    #[test]
    fn quotes_count_where_a_word_begins_with_one() {
        let r =
            record(r#"jet stream tcp nowait root /tcpd /bin/sh -c "(cat ;sleep 0.5) | nc 8000" '' 'a "b"'"#);
        assert_eq!(words(r.args), ["/bin/sh", "-c", "(cat ;sleep 0.5) | nc 8000", "", "a \"b\""]);
        let r = record("a stream tcp nowait root \"/opt/my dir/x\" x");
        assert_eq!(path(&r), "/opt/my dir/x");
        let r = noted("a stream tcp nowait root /x x --a=\"b c\" don't \\n \\\\");
        assert_eq!(words(r.args), ["x", "--a=\"b", "c\"", "don't", "\\n", "\\\\"]);
        assert_eq!(
            findings(b"a stream tcp nowait root /x x --a=\"b c\" don't"),
            ["35 Note a quote inside a word is passed on as it is"]
        );
        assert_eq!(
            broken("a stream tcp nowait root /x x \"b"),
            ["31 Error the quote is not closed on its line"]
        );
        assert_eq!(
            broken("a stream tcp nowait root /x x 'b'c"),
            ["34 Error text right behind the closing quote"]
        );
        assert_eq!(broken("a stream tcp nowait root \"\" x"), ["26 Error the program is empty"]);
    }

    #[test]
    fn comments_stand_alone() {
        for text in ["", "   ", "\t\r", "# a", "   # a", "#", "#<off># ftp stream tcp", "#@(#)inetd.conf 5.4"]
        {
            assert!(matches!(parse(text.as_bytes(), 0, &mut |_| {}).line, Line::Nothing), "{text}");
            assert!(findings(text.as_bytes()).is_empty(), "{text}");
        }
        let text = "a stream tcp nowait root /x x -a # trailing # words";
        assert_eq!(findings(text.as_bytes()), ["34 Warning `#` does not begin a comment among arguments"]);
        assert_eq!(words(noted(text).args), ["x", "-a", "#", "trailing", "#", "words"]);
        assert!(record("a stream tcp nowait root /x x a#b").enabled);
        assert_eq!(findings(b"# a \\"), ["5 Note a comment ends with its line in spite of the backslash"]);
        assert!(!needs_more(b"# a \\"));
    }

    #[test]
    fn policies_and_includes() {
        assert!(matches!(parse(b"#@ ipsec ah/require", 0, &mut |_| {}).line, Line::Policy { column: 1 }));
        assert_eq!(findings(b"#@"), ["1 Warning an IPsec policy has no effect here"]);
        let Line::Include { pattern, column: 1 } = parse(b".include \"inetd.d/*.conf\"", 0, &mut |_| {}).line
        else {
            panic!()
        };
        assert_eq!((pattern.plain(), pattern.column), (Some(&b"inetd.d/*.conf"[..]), 10));
        let Line::Include { pattern, .. } = parse(b".include x\r", 0, &mut |_| {}).line else { panic!() };
        assert_eq!(pattern.plain(), Some(&b"x"[..]));
        assert_eq!(broken(".include"), ["8 Error `.include` without a file"]);
        assert_eq!(broken(".include a b"), ["12 Error more than one word behind `.include`"]);
        assert_eq!(broken(".includ a"), ["1 Error `.includ` is not a directive"]);
    }

    #[test]
    fn line_ends_of_both_kinds() {
        let r = record("a stream tcp nowait root /x x\r");
        assert_eq!(words(r.args), ["x"]);
        let r = record("a stream tcp nowait root /home/ect/apps/apps.py\r\n");
        assert_eq!((path(&r).as_str(), r.args.count()), ("/home/ect/apps/apps.py", 0));
        // Elsewhere a CR is a byte like others.
        assert_eq!(words(record("a stream tcp nowait root /x x\ry").args), ["x\ry"]);
        assert_eq!(broken("a stream tcp nowait root /x x\0y"), ["30 Error a NUL byte"]);
    }

    #[test]
    fn backslashes_join_lines() {
        assert!(needs_more(b"a stream tcp \\"));
        assert!(needs_more(b"a stream tcp \\\r"));
        assert!(!needs_more(b"a stream tcp \\\\"));
        assert!(!needs_more(b"a stream tcp \\ "));
        let text = "a stream tcp \\\r\nnowait root \\\n  /x x \\\\";
        assert_eq!(words(record(text).args), ["x", "\\\\"]);
        assert_eq!(
            findings(b"a stream tcp nowait root /x x \\"),
            ["31 Warning there is no line behind the backslash"]
        );
        assert_eq!(
            broken("a stream tcp nowait root /x x\\\ny"),
            ["30 Error a word runs into the backslash that joins two lines"]
        );
        assert_eq!(words(record("a stream tcp nowait root /x x\\\n y").args), ["x", "y"]);
        assert_eq!(
            broken("a stream tcp nowait root /x x \\\n# b"),
            ["33 Error a comment in the middle of a record"]
        );
    }

    #[test]
    fn indented_lines_go_on_with_a_record() {
        let first = b"a stream tcp nowait root /x x";
        assert!(continues(first, b"\t-l -d"));
        assert!(continues(b"a stream tcp", b" nowait root /x"));
        assert!(continues(b"a: b", b" stream tcp nowait root /x"));
        for next in
            ["-l", "", "   ", "  \r", "  # comment", "  b stream tcp nowait root /y y", "\tb on wait = no;"]
        {
            assert!(!continues(first, next.as_bytes()), "{next}");
        }
        for text in ["", "# a", "*:", ".include x", "a on wait = no;"] {
            assert!(!continues(text.as_bytes(), b" b c"), "{text}");
        }
        let text = "a stream tcp nowait root /x x\n\t-l\n -d";
        assert_eq!(words(noted(text).args), ["x", "-l", "-d"]);
        assert_eq!(findings(text.as_bytes()), ["32 Note an indented line goes on with the record above it"]);
        assert_eq!(place(text.as_bytes(), 32), Place { line: 1, column: 2 });
        assert_eq!(place(text.as_bytes(), 1), Place { line: 0, column: 1 });
        assert_eq!(place(b"", 7), Place { line: 0, column: 1 });
    }

    #[test]
    fn arguments_that_are_surely_not_meant() {
        assert_eq!(
            findings(b"tftp dgram udp wait root /usr/sbin/in.tftpd -s /var/lib/tftpboot"),
            ["45 Warning `-s` becomes the program's own name (argv[0])"]
        );
        assert_eq!(
            findings(b"auth stream tcp nowait root internal auth -r -f"),
            ["38 Warning arguments of internal services have no effect here"]
        );
        assert!(findings(b"auth stream tcp nowait root internal auth").is_empty());
    }
}

mod key_value {
    use super::*;

    const WHOLE: &str = "http on  # the web\n  bind = \"::1\", socktype = stream,\n  protocol = tcp6only, sndbuf = 8k, \
                         recvbuf = 9,\n wait = no, service_max = 40, ip_max=4 , accept_max = 2,\n user = nobody, group \
                         # x\n = nogroup,\n exec = /path/prog, args = prog -x \"two words\"a'b'#c\n \"\\x41\\n\\\"\" ;";

    #[test]
    fn the_same_record_as_the_positional_form() {
        let r = record(WHOLE);
        assert_eq!(addresses(&r), [Address::Ip("::1".parse().unwrap())]);
        assert_eq!(r.service, At { column: 1, value: Service::Name(b"http") });
        assert_eq!((r.socket.value, r.wait.value), (Socket::Stream, false));
        assert_eq!(r.protocol.value.family, Family::V6);
        assert_eq!(r.send_buffer.map(|at| at.value), Some(8192));
        assert_eq!(r.receive_buffer.map(|at| at.value), Some(9));
        assert_eq!(r.limits.per_minute.map(|at| at.value), Some(40));
        assert_eq!(r.limits.per_minute_source.map(|at| at.value), Some(4));
        assert_eq!(r.limits.accepts.map(|at| at.value), Some(2));
        let account = r.account.unwrap();
        assert_eq!((account.user.value, account.group.unwrap().value), (&b"nobody"[..], &b"nogroup"[..]));
        assert_eq!(path(&r), "/path/prog");
        assert_eq!(words(r.args), ["prog", "-x", "two wordsab", "A\n\""]);
        let mut small = [0; 2];
        assert_eq!(r.args.last().unwrap().copy_to(&mut small), Err(TooLong(3)));
    }

    #[test]
    fn it_needs_lines_up_to_its_semicolon() {
        for (i, b) in WHOLE.bytes().enumerate() {
            // Before `on` it is a positional record.
            if b == b'\n' {
                assert!(needs_more(&WHOLE.as_bytes()[..i]), "{}", &WHOLE[..i]);
            }
        }
        assert!(needs_more(b"a on"));
        assert!(!needs_more(WHOLE.as_bytes()));
        // What cannot be read takes no more lines with it.
        assert!(!needs_more(b"a on wait = no, b stream tcp nowait root /x"));
        assert!(!needs_more(b"a on args = \"b"));
        assert_eq!(broken("a on wait = no"), ["14 Error the `;` that ends the definition is missing"]);
    }

    #[test]
    fn several_definitions_share_a_line() {
        let text = b"a off protocol=tcp,wait=no,user=u,exec=/x; b: c on protocol=udp; # end";
        let first = parse(text, 0, &mut |_| {});
        let Line::Record(a) = first.line else { panic!("{:?}", findings(text)) };
        assert!(!a.enabled);
        let second = parse(text, first.next, &mut |_| {});
        let Line::Record(c) = second.line else { panic!("{:?}", findings(text)) };
        assert_eq!(
            (c.service.value, c.socket.value, c.wait.value),
            (Service::Name(b"c"), Socket::Dgram, true)
        );
        assert_eq!((addresses(&c), c.service.column), (Vec::from([Address::Name(b"b")]), 47));
        assert!(c.enabled && c.account.is_none() && matches!(c.program, Program::Internal { .. }));
        let third = parse(text, second.next, &mut |_| {});
        assert!(matches!(third.line, Line::Nothing) && third.next == text.len());
        // Positional behind key/value.
        let text = b"a on protocol=udp; b stream tcp nowait root internal";
        let next = parse(text, 0, &mut |_| {}).next;
        assert!(matches!(parse(text, next, &mut |_| {}).line, Line::Record(_)));
    }

    #[test]
    fn a_mistake_costs_its_definition_only() {
        let text = b"a on nice = 5 6, protocol = tcp, protocol = udp; b on protocol = udp;";
        assert_eq!(findings(text), ["6 Error `nice` is not a key", "34 Error `protocol` is given twice"]);
        let first = parse(text, 0, &mut |_| {});
        assert!(matches!(first.line, Line::Broken(_)));
        assert!(matches!(parse(text, first.next, &mut |_| {}).line, Line::Record(_)));
        assert_eq!(
            findings(b"a on wait no, x = y; b on protocol = udp;"),
            ["11 Error `=` is missing behind the key"]
        );
    }

    #[test]
    fn values_are_checked() {
        let line = |rest: &str| format!("a on protocol = tcp, wait = no, user = u, exec = /x, {rest};");
        for (rest, finding) in [
            ("bind = ", "54 Error `bind` has no value"),
            ("bind = a b", "63 Error `bind` has more than one value"),
            ("bind = 1.2.3", "61 Error `1.2.3` is not an address"),
            (
                "socktype = \"str\\x65am\"",
                "65 Error escapes and quotes inside a word are understood in `exec` and `args` alone",
            ),
            ("socktype = stream:x", "65 Error `stream:x` is not a socket type"),
            ("sndbuf = 1g", "63 Error `1g` is not a size"),
            ("service_max = 0", "68 Error 0 starts a minute"),
            ("ip_max = -1", "63 Error `-1` is not a number this can be"),
            ("group = ''", "54 Error `group` has no value"),
            ("args = \"\\q\"", "62 Error an unknown escape"),
            ("args = \"\\x4\"", "62 Error an unknown escape"),
            ("args = \"a\\x00\"", "63 Error a NUL byte"),
        ] {
            assert_eq!(broken(&line(rest)), [finding], "{rest}");
        }
        assert_eq!(
            findings(line("acceptfilter = a b").as_bytes()),
            ["54 Warning an accept filter has no effect here"]
        );
        assert_eq!(findings(line("ipsec = ").as_bytes()), ["54 Warning `ipsec` has no effect here"]);
        assert_eq!(words(record(&line("args = ")).args), Vec::<String>::new());
        assert_eq!(path(&record("a on protocol=tcp,wait=no,user=u,exec=\"/a\\x20b\";")), "/a b");
    }

    #[test]
    fn what_is_missing_is_inferred_or_named() {
        assert_eq!(
            broken("a on exec = /x;"),
            ["15 Error `protocol` is missing", "15 Error `wait` is missing", "15 Error `user` is missing",]
        );
        assert_eq!(
            broken("/r on protocol = unix, wait = no, user = u, exec = /x;"),
            ["54 Error `socktype` is missing"]
        );
        assert_eq!(
            broken("a on protocol = tcp, user = u:g, group = h;"),
            ["42 Error the group is given twice"]
        );
        let r = record("a on protocol = tcp, user = u.g, group = h;");
        assert_eq!(r.account.unwrap().dotted, None);
        assert_eq!(broken("a on;").len(), 1);
        assert_eq!(broken("b:a on bind = c, protocol = udp;"), ["1 Error the addresses are given twice"]);
        assert_eq!(broken("a on wait = maybe, protocol = udp;"), ["13 Error `maybe` is neither yes nor no"]);
    }
}

/// Lines of real files, one or two of each kind.
mod corpus {
    use super::*;

    #[test]
    fn lines_of_real_files_load() {
        for text in [
            "ssh\tstream\ttcp\tnowait\troot\t/usr/sbin/dropbear\tdropbear -i -R",
            "kshell\t\tstream\ttcp\tnowait\troot\t/usr/sbin/tcpd\t/usr/sbin/kshd -5ec",
            "ident\t\tstream\ttcp\twait\tnobody.kmem /usr/libexec/identd\tidentd -w -t60 -l -o -e -N",
            "rusersd/2-3\tdgram\trpc/udp\twait\troot\t/usr/libexec/rpc.rusersd rpc.rusersd",
            "hamtest                 stream  tcp     nowait  ect     /usr/bin/python3 /home/ect/apps/hamtest.py\r",
            "/run/krb5_admin stream\tunix   wait root /usr/libexec/prefork\tprefork -n 5 -N 20 /usr/sbin/krb5_admind -P",
            "whois\t \tstream\ttcp \tnowait\tnobody\t/usr/bin/gwhois gwhois",
            "tcpmux/+sftp-rush stream tcp nowait root /usr/bin/rush-notifier rush-notifier",
            "nntp stream tcp nowait news.news /usr/sbin/tcpd /usr/sbin/snntpd logger -p news.info",
            "*:874\tstream\ttcp4\tnowait.25\troot\t/usr/sbin/sshd /usr/sbin/sshd -i",
            "dict\tstream\ttcp4\tnowait\tdictd.dictd\t/usr/sbin/tcpd\t/usr/sbin/dictd  --inetd",
            "127.0.0.1:8080 stream tcp nowait.100 nobody /bin/stunnel stunnel /etc/stunnel/stunnel-proxyclient.conf",
            "/var/www/run/rsysd.sock stream unix nowait rsysd /usr/local/sbin/rsysd",
            "#:BOOT: TFTP service is provided primarily for booting.  Most sites",
            "#       run this only on machines acting as \"boot servers.\"",
            "#<off># sane-port\tstream\ttcp\tnowait\tsaned:saned\t/usr/sbin/saned saned",
            "#\t@(#)inetd.conf\t5.4 (Berkeley) 6/30/90",
            "127.0.0.1,10.157.x.x:",
        ] {
            assert_eq!(findings(text.as_bytes()), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn lines_of_real_files_that_deserve_a_word() {
        for (text, finding) in [
            (
                "21 stream tcp nowait admin ftpd /var/mnt/usbms/bin/ftpd -w /",
                "28 Warning `ftpd` is not an absolute path",
            ),
            ("tcpmux stream tcp6 nowait root internal", "15 Note this is IPv6 alone"),
            (
                "::1:444\tstream tcp6 nowait root /bin/echo echo Hello IPv6 localhost",
                "16 Note this is IPv6 alone",
            ),
            ("4240 stream tcp nowait root bos bos default ", "29 Warning `bos` is not an absolute path"),
            (
                "tftp dgram udp wait root /usr/sbin/in.tftpd -s /var/lib/tftpboot",
                "45 Warning `-s` becomes the program's own name (argv[0])",
            ),
        ] {
            noted(text);
            assert_eq!(findings(text.as_bytes()), [finding], "{text}");
        }
    }
}

/// Random bytes, and valid lines cut and changed: nothing panics, everything ends, every column is in the line.
mod storm {
    use super::*;

    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            // xorshift64*
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }

        fn below(&mut self, n: usize) -> usize {
            (self.next() >> 16) as usize % n.max(1)
        }
    }

    const SEEDS: [&str; 12] = [
        "127.0.0.1,[::1],host:ftp stream,4 tcp6,sndbuf=1k,rcvbuf=2m nowait.40 root:wheel/c /bin/ftpd ftpd 'a b' \"c\"",
        "rstatd/1-3\tdgram\trpc/udp\twait/1/2/3\tuser.group\t/usr/libexec/rpc.rstatd\t-x # y",
        ":u:g:0660:/run/x stream unix nowait root internal a b",
        "tcpmux/+x stream tcp/ttcp nowait:3 root \"/a b\" x\\\n  y\n\tz \\",
        "http on bind = \"::1\", socktype = stream, protocol = tcp6, wait = no, service_max = 40, user = n, exec = /p, \
         args = p -x \"t \\x41\\n w\"'q' #c\n z; b off protocol=udp; c dgram udp wait root internal",
        ".include \"/etc/*.conf\"",
        "#@ ipsec",
        "# comment \\\nx",
        "a,b,*,fe80::1%lo:",
        "a: b stream tcp nowait root /x\r\n",
        "x off ; ; on on = = , , ; '",
        "a faith/tcp wait /x",
    ];
    const SPICE: &[u8] = b" \t\r\n\\\"'#,;:=./+*@%[]0f\0\xff";

    fn check(text: &[u8]) {
        let len = text.len() as u32;
        let within = |column: u32| assert!((1..=len.max(1)).contains(&column), "{column} in {len}: {text:?}");
        needs_more(text);
        let half = text.len() / 2;
        continues(&text[..half], &text[half..]);
        let (mut from, mut rounds) = (0, 0);
        loop {
            rounds += 1;
            assert!(rounds <= text.len() + 1, "{text:?}");
            let mut errors = 0;
            let parsed = parse(text, from, &mut |problem| {
                within(problem.column);
                assert!(!problem.what().to_string().is_empty() && !problem.cure().to_string().is_empty());
                assert!(place(text, problem.column).column <= problem.column);
                errors += u32::from(problem.weight() == Weight::Error);
            });
            let line = |list: Addresses<'_>| list.iter().for_each(|at| assert!(at.column <= len + 1));
            match parsed.line {
                Line::Record(r) => {
                    assert_eq!(errors, 0, "{text:?}");
                    for column in
                        [r.column, r.service.column, r.socket.column, r.protocol.column, r.wait.column]
                    {
                        within(column);
                    }
                    if let Some(account) = r.account {
                        within(account.user.column);
                    }
                    let mut buf = [0; 512];
                    let mut count = 0;
                    for word in r.args {
                        count += 1;
                        assert!(count <= text.len());
                        within(word.column);
                        let n = word.copy_to(&mut buf).unwrap();
                        assert!(!buf[..n].contains(&0), "{text:?}");
                    }
                    r.addresses.into_iter().for_each(line);
                    if let Program::Path(word) = r.program {
                        assert!(!word.is_empty());
                    }
                }
                Line::Broken(b) => {
                    assert!(errors > 0, "{text:?}");
                    within(b.column);
                    b.addresses.into_iter().for_each(line);
                }
                Line::DefaultAddress(list) => line(list),
                Line::Include { pattern, column } => {
                    within(column);
                    assert!(!pattern.is_empty());
                }
                Line::Nothing | Line::Policy { .. } => assert_eq!(errors, 0, "{text:?}"),
            }
            if parsed.next >= text.len() {
                assert_eq!(parsed.next, text.len());
                return;
            }
            assert!(parsed.next > from, "{text:?}");
            from = parsed.next;
        }
    }

    #[test]
    fn truncations() {
        for seed in SEEDS {
            for end in 0..=seed.len() {
                check(&seed.as_bytes()[..end]);
                check(&seed.as_bytes()[end..]);
            }
        }
    }

    #[test]
    fn mutations() {
        let mut random = Random(0x6b8b_4567_327b_23c6);
        for _ in 0..60_000 {
            let mut text = SEEDS[random.below(SEEDS.len())].as_bytes().to_vec();
            for _ in 0..=random.below(4) {
                let at = random.below(text.len() + 1);
                let spice = SPICE[random.below(SPICE.len())];
                match random.below(5) {
                    0 => text.truncate(at),
                    1 if at < text.len() => {
                        text.remove(at);
                    }
                    2 if at < text.len() => text[at] = spice,
                    3 => {
                        let other = SEEDS[random.below(SEEDS.len())].as_bytes();
                        let tail = other[random.below(other.len())..].to_vec();
                        text.splice(at..at, tail);
                    }
                    _ => text.insert(at, spice),
                }
            }
            text.truncate(500);
            check(&text);
        }
    }

    #[test]
    fn random_bytes() {
        let mut random = Random(0x1234_5678_9abc_def1);
        for _ in 0..30_000 {
            let len = random.below(60);
            let all = random.below(2) == 0;
            let text: Vec<u8> = (0..len)
                .map(|_| if all { random.next() as u8 } else { SPICE[random.below(SPICE.len())] })
                .collect();
            check(&text);
        }
    }

    #[test]
    fn a_long_line_is_read_in_a_moment() {
        for unit in ["\\", "'", "\"a\" ", "a,", "#", "x on a=b;", "a b\n", "\\\n", ":", "/"] {
            let text = unit.repeat(16 * 1024 / unit.len());
            let mut from = 0;
            needs_more(text.as_bytes());
            while from < text.len() {
                from = parse(text.as_bytes(), from, &mut |_| {}).next;
            }
        }
    }
}
