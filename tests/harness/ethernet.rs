//! Ethernet frames as nobody should send them.

use super::Random;

/// RFC 1071: the checksum of an even or odd number of bytes.
pub fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
}

/// The nth SYN of a flood against a port of `to` (Ethernet and IPv4), from addresses of its network where nobody is.
pub fn handshake(to: ([u8; 6], [u8; 4]), n: u32, port: u16) -> Vec<u8> {
    let (ethernet, [a, b, c, _]) = to;
    let mut frame = ethernet.to_vec();
    frame.extend([2, 0, 0, 0, 0, 9, 8, 0]);
    let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
    ip.extend([a, b, c, 100 + (n % 100) as u8]);
    ip.extend(to.1);
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    let mut tcp = Vec::new();
    tcp.extend((1024 + (n % 60_000) as u16).to_be_bytes());
    tcp.extend(port.to_be_bytes());
    tcp.extend(n.to_be_bytes());
    tcp.extend([0, 0, 0, 0, 0x50, 2, 16, 0, 0, 0, 0, 0]);
    let sum = tcp_checksum(&ip, &tcp);
    tcp[16..18].copy_from_slice(&sum);
    frame.extend(ip);
    frame.extend(tcp);
    frame
}

/// The checksum of a segment without one, behind that IPv4 header.
fn tcp_checksum(ip: &[u8], tcp: &[u8]) -> [u8; 2] {
    let pseudo = [&ip[12..20], &[0, 6], &(tcp.len() as u16).to_be_bytes(), tcp].concat();
    checksum(&pseudo)
}

/// Changes some bytes of a frame, or cuts it, or lengthens it; who it is for stays.
pub fn spoil(frame: &mut Vec<u8>, random: &mut Random) {
    let to: [u8; 6] = frame[..6].try_into().expect("a frame");
    for _ in 0..random.below(5) {
        let at = random.below(frame.len());
        frame[at] = random.next() as u8;
    }
    match random.below(4) {
        0 => frame.truncate(14 + random.below(frame.len() - 14)),
        1 => frame.extend((0..random.below(1400)).map(|_| random.next() as u8)),
        _ => {}
    }
    frame[..6].copy_from_slice(&to);
}

/// Of a TCP segment over IPv4 with at least two bytes of data, one with the first half of them: what follows overlaps it.
pub fn half_segment(frame: &[u8]) -> Option<Vec<u8>> {
    let ip = frame.get(14..)?;
    if frame[12..14] != [8, 0] || ip.get(9) != Some(&6) {
        return None;
    }
    let header = usize::from(ip[0] & 15) * 4;
    let whole = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let tcp = ip.get(header..whole)?;
    let offset = usize::from(tcp.get(12)? >> 4) * 4;
    let data = tcp.len().checked_sub(offset).filter(|&n| n >= 2)?;
    let mut ip = ip[..header].to_vec();
    let mut tcp = tcp[..offset + data / 2].to_vec();
    // FIN stands behind the last byte: it would end the stream here. So it was once in a while, and the rest of what a client
    // had sent was rightly ignored.
    tcp[13] &= !1;
    ip[2..4].copy_from_slice(&((header + tcp.len()) as u16).to_be_bytes());
    ip[10..12].fill(0);
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    tcp[16..18].fill(0);
    let sum = tcp_checksum(&ip, &tcp);
    tcp[16..18].copy_from_slice(&sum);
    Some([&frame[..14], &ip, &tcp].concat())
}

/// An IPv4 packet of a frame in two fragments (RFC 791), or the frame as it is if it cannot be parted.
pub fn fragments(frame: &[u8]) -> Vec<Vec<u8>> {
    let Some(ip) = frame.get(14..).filter(|ip| frame[12..14] == [8, 0] && ip.len() >= 36) else {
        return vec![frame.to_vec()];
    };
    let header = usize::from(ip[0] & 15) * 4;
    let whole = usize::from(u16::from_be_bytes([ip[2], ip[3]])).min(ip.len());
    let cut = header + 8;
    let part = |from: usize, to: usize, flags: u16| {
        let mut head = ip[..header].to_vec();
        head[2..4].copy_from_slice(&((header + to - from) as u16).to_be_bytes());
        head[6..8].copy_from_slice(&flags.to_be_bytes());
        head[10..12].fill(0);
        let sum = checksum(&head);
        head[10..12].copy_from_slice(&sum);
        [&frame[..14], &head, &ip[from..to]].concat()
    };
    vec![part(header, cut, 0x2000), part(cut, whole, 1)]
}
