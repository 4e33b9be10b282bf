//! The kernel's own TCP behind a TAP device, on the machine that the clients are on.
//!
//! Whoever is behind a TAP device is reached through a process that reads and writes frames. usherd answers in that
//! process. For the kernel to answer, that process can only hand each frame back to it: here with both addresses swapped, of
//! Ethernet and of IPv4. A client at 10.0.0.2 that speaks to 10.0.0.1, who does not exist, reaches the service that
//! listens at 10.0.0.2, and to that service it comes from 10.0.0.1. No checksum changes, as a sum does not depend on
//! order. A frame costs one read and one write and nothing else: the least that there can be.

use std::fs::File;
use std::io::{Read, Result, Write};

use rustix::ioctl::{Setter, ioctl, opcode};

/// struct ifreq, as TUNSETIFF reads it.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

fn open(name: &str) -> Result<File> {
    const TUNSETIFF: u32 = opcode::write::<core::ffi::c_int>(b'T', 202);
    const IFF_TAP: u16 = 2;
    const IFF_NO_PI: u16 = 0x1000;
    let mut request = Request { name: [0; 16], flags: IFF_TAP | IFF_NO_PI, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    assert_eq!(request.name[15], 0, "{name} is too long");
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: TUNSETIFF reads a struct ifreq, which this is, and changes nothing but its name.
    unsafe { ioctl(&file, Setter::<TUNSETIFF, Request>::new(request))? };
    Ok(file)
}

/// Sends back every IPv4 frame. The kernel is to know the Ethernet address of whom it speaks to: nobody answers ARP.
pub fn serve(name: &str) -> Result<()> {
    let mut device = open(name)?;
    let mut frame = [0; 1514];
    loop {
        let len = device.read(&mut frame)?;
        // Ethernet's header, and IPv4's without options.
        if len < 34 || frame[12..14] != [8, 0] {
            continue;
        }
        let (to, from) = frame[..12].split_at_mut(6);
        to.swap_with_slice(from);
        let (from, to) = frame[26..34].split_at_mut(4);
        from.swap_with_slice(to);
        device.write_all(&frame[..len])?;
    }
}
