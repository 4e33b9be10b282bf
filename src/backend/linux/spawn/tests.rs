extern crate std;

use std::boxed::Box;
use std::ffi::CString;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};

use super::*;

const ROOT: Heritage = Heritage { umask: 0o022, nice: 0, files: (1024, 1024), uid: 0 };

fn spawner(heritage: Heritage) -> &'static mut Spawner {
    let spawner = Box::leak(Box::new(Spawner::new()));
    spawner.set_heritage(heritage);
    spawner
}

/// What the tests are run as may be anybody.
fn own_heritage() -> Heritage {
    Heritage { uid: rustix::process::getuid().as_raw(), ..ROOT }
}

fn order<'a>(table: &'a Table, service: &'a Service, socket: RawFd) -> Order<'a> {
    Order {
        table,
        service,
        socket,
        stderr: socket,
        gets_nothing: false,
        peer: Peer::Unknown,
        local: None,
        effects: None,
        command: None,
        linger: 0,
    }
}

fn wait(pid: u32) -> WaitStatus {
    waitpid(Pid::from_raw(pid as i32), WaitOptions::empty()).unwrap().unwrap().1
}

/// Runs a server to its end, in both ways; what it wrote.
fn output(heritage: Heritage, table: &Table, change: impl Fn(&mut Order<'_>), service: &Service) -> String {
    let mut texts = Vec::new();
    for shares in [true, false] {
        let spawner = spawner(heritage);
        if !shares {
            spawner.share_nothing();
        }
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut order = order(table, service, ours.as_raw_fd());
        change(&mut order);
        let pid = spawner.spawn(&order).unwrap();
        drop(ours);
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        wait(pid);
        assert_eq!(spawner.reaped(pid), None);
        texts.push(text);
    }
    assert_eq!(texts[0], texts[1]);
    texts.remove(0)
}

fn effects(change: impl FnOnce(&mut Effects)) -> Effects {
    let mut effects = Effects::default();
    change(&mut effects);
    effects
}

#[test]
fn a_command_is_run_by_the_shell() {
    let table = Box::new(Table::new());
    let service = Service::default();
    let run = |command: &[u8]| {
        let own = own_heritage();
        output(own, &table, |order| order.command = Some(leak(command)), &service)
    };
    assert_eq!(run(b"echo $0 $# \"$1\"; umask; nice\0"), "sh 0 \n0022\n0\n");
    assert_eq!(run(b"echo no NUL"), "no NUL\n");
    // The longest there may be.
    let long = format!("echo {}", "x".repeat(4096 - "echo ".len() - 1));
    assert_eq!(run(long.as_bytes()).len(), 4096 - "echo ".len());
}

fn leak(bytes: &[u8]) -> &'static [u8] {
    Box::leak(bytes.to_vec().into_boxed_slice())
}

#[test]
fn nothing_is_cut() {
    let table = Box::new(Table::new());
    let service = Service::default();
    let spawner = spawner(ROOT);
    let mut order = order(&table, &service, 0);
    let long = vec![b'x'; TEXT_BYTES];
    order.command = Some(&long);
    assert_eq!(spawner.spawn(&order), Err(Errno::TOOBIG));
    order.command = Some(b"true\0; false\0");
    assert_eq!(spawner.spawn(&order), Err(Errno::INVAL));
    assert!(spawner.is_idle());
}

#[test]
fn effects_change_nice_value_and_umask() {
    let table = Box::new(Table::new());
    let mut service = Service { nice: Some(3), umask: Some(0o077), ..Service::default() };
    let command: Option<&[u8]> = Some(b"umask; nice\0");
    let more = effects(|e| {
        e.nice = Some(4);
        e.umask = Some(0o027);
    });
    let most = effects(|e| e.nice = Some(i32::MAX));
    let run = |service: &Service, effects: Option<&'static Effects>| {
        let change = |order: &mut Order<'_>| {
            order.command = command;
            order.effects = effects;
        };
        output(own_heritage(), &table, change, service)
    };
    let (more, most): (&Effects, &Effects) = (Box::leak(Box::new(more)), Box::leak(Box::new(most)));
    assert_eq!(run(&service, None), "0077\n3\n");
    assert_eq!(run(&service, Some(more)), "0027\n7\n");
    assert_eq!(run(&service, Some(most)), "0077\n19\n");
    service.nice = None;
    assert_eq!(run(&service, Some(more)), "0027\n4\n");
}

#[test]
fn effects_change_user_and_group() {
    assert_eq!(own_heritage().uid, 0, "only root can change users: run the tests as root");
    let mut table = Box::new(Table::new());
    let groups = table.push_gids(&[5, 6]).unwrap();
    let command: Option<&[u8]> = Some(b"id -u; id -g; id -G\0");
    let nobody: &Effects = Box::leak(Box::new(effects(|e| e.identity = Some((65534, 1234)))));
    let mut service = Service { flags: Flags::default().with(Flags::GROUPS), ..Service::default() };
    service.identity.groups = groups;
    for uid in [None, Some(0)] {
        service.identity.uid = uid;
        service.identity.gid = uid;
        let change = |order: &mut Order<'_>| {
            order.command = command;
            order.effects = Some(nobody);
        };
        assert_eq!(output(ROOT, &table, change, &service), "65534\n1234\n1234\n");
    }
    let change = |order: &mut Order<'_>| order.command = command;
    assert_eq!(output(ROOT, &table, change, &service), "0\n0\n0 5 6\n");
}

/// Nobody gets more by a rule than the service's file gives.
#[test]
fn effects_do_not_change_the_user_of_a_service_that_has_one() {
    let table = Box::new(Table::new());
    let mut service = Service::default();
    for identity in [(0, 0), (65534, 65534)] {
        let effects = effects(|e| e.identity = Some(identity));
        service.identity.uid = Some(1000);
        let mut order = order(&table, &service, 0);
        order.effects = Some(&effects);
        order.command = Some(b"true\0");
        assert_eq!(spawner(ROOT).spawn(&order), Err(Errno::PERM));
        let service = Service::default();
        order.service = &service;
        assert_eq!(spawner(Heritage { uid: 1000, ..ROOT }).spawn(&order), Err(Errno::PERM));
    }
}

#[test]
fn variables_of_a_rule_shadow_the_rest() {
    let mut table = Box::new(Table::new());
    let words = [b"A=service".as_slice(), b"B=service"].map(|word| table.push_text(word).unwrap());
    let service = Service { env: table.push_words(&words).unwrap(), ..Service::default() };
    let inherited: Vec<CString> =
        ["A=daemon", "B=daemon", "C=daemon", "D=daemon"].map(|word| CString::new(word).unwrap()).into();
    let inherited: Vec<*const c_char> =
        inherited.into_iter().map(|word| word.into_raw().cast_const()).collect();
    let (mut list, mut bytes) = (Box::new([null(); POINTERS]), Box::new([0; TEXT_BYTES]));
    let mut environment = |added: &[&[u8]]| {
        let mut pointers = Pointers { list: &mut list, len: 0 };
        let mut text = SlotText { bytes: &mut bytes, len: 0 };
        push_environment(
            &mut pointers,
            &mut text,
            &order(&table, &service, 0),
            || added.iter().copied(),
            &inherited,
            &[false; 4],
        )?;
        let words = pointers.list.iter().take(pointers.len);
        // SAFETY: each is a C string of the table, the slot or the list above.
        let words = words.map(|word| unsafe { core::ffi::CStr::from_ptr(word.cast()) });
        Ok(words.map(|word| word.to_str().unwrap().to_string()).collect::<Vec<_>>())
    };
    assert_eq!(environment(&[]).unwrap(), ["A=service", "B=service", "C=daemon", "D=daemon"]);
    assert_eq!(
        environment(&[b"A=rule\0", b"D=\0", b"E=first\0", b"AA=rule", b"E=last\0"]).unwrap(),
        ["A=rule", "D=", "AA=rule", "E=last", "B=service", "C=daemon"]
    );
    assert_eq!(environment(&[&[b'x'; TEXT_BYTES]]), Err(Errno::TOOBIG));
}

/// SO_LINGER is for who closes last; and that a server does.
#[test]
fn a_server_finds_its_connection_lingering() {
    let table = Box::new(Table::new());
    let service = Service::default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = super::super::sys::adopt(listener.accept().unwrap().0.into_raw_fd()).unwrap();
    let mut order = order(&table, &service, rustix::fd::AsRawFd::as_raw_fd(&ours));
    order.command = Some(b"echo here\0");
    order.linger = 7;
    let pid = spawner(own_heritage()).spawn(&order).unwrap();
    wait(pid);
    let lingers = rustix::net::sockopt::socket_linger(&ours).unwrap();
    assert_eq!(lingers, Some(core::time::Duration::from_secs(7)));
    rustix::net::sockopt::set_socket_linger(&ours, None).unwrap();
    drop(ours);
    let mut text = String::new();
    theirs.read_to_string(&mut text).unwrap();
    assert_eq!(text, "here\n");
}
