//! What can be wrong with a rule, and what to write instead.

use crate::tell::told;

/// How much a fault weighs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Weight {
    /// Without effect, or surely not what was meant.
    Warning,
    /// What it says is not known, or more than one thing. A rule that grants does not count; one that refuses
    /// refuses whoever it might mean.
    Error,
}

/// One kind of mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    // Lines.
    LineTooLong,
    Nul,
    Dangling,
    NoColon,
    Unbalanced,
    ByteOrderMark,
    CommentGoesOn,
    NoNewline,
    LineOver,
    Shadowed,
    Twice,
    // Lists.
    NoDaemons,
    NoClients,
    ExceptNothing,
    ExceptDeep,
    Hash,
    // Daemons.
    DaemonPath,
    DaemonUnknown,
    DaemonReserved,
    DaemonMark,
    DaemonPart,
    DaemonKnown,
    PortTooBig,
    // Users.
    UserMark,
    UserPart,
    UserReserved,
    // Hosts.
    HostEmpty,
    HostAt,
    Odd,
    Short,
    NotCanonical,
    BadAddress,
    BareV6,
    Range,
    BadNet,
    ShortNet,
    HostBits,
    NotDecimal,
    BadMask,
    BadLength,
    LengthJunk,
    LengthZero,
    AllOnes,
    Inverse,
    Scattered,
    Brackets,
    BracketV4,
    BracketGlob,
    LengthInside,
    Mapped,
    Zone,
    Hidden,
    Fail,
    NoKeyword,
    Never,
    NumberEnd,
    NamePrefix,
    NameUnknown,
    // Files and netgroups.
    FileMissing,
    FileUnreadable,
    FileDeep,
    InFile,
    WordTooLong,
    FileUser,
    FileComma,
    FileExcept,
    NetgroupEmpty,
    NetgroupUnknown,
    NetgroupUnreadable,
    NetgroupDeep,
    // Options.
    OptionEmpty,
    OptionUnknown,
    OptionSpawnWord,
    ValueMissing,
    ValueExtra,
    NotLast,
    BadNice,
    BadLinger,
    BadUmask,
    BadTimeout,
    BadSeverity,
    BadVariable,
    NoBanners,
    OptionsLong,
    NoUser,
    NotRoot,
    NoGroup,
    NamesUnreadable,
    Percent,
}

impl Fault {
    pub const fn weight(self) -> Weight {
        use Fault::*;
        match self {
            Shadowed | Twice | DaemonUnknown | DaemonReserved | DaemonMark | DaemonPart | DaemonKnown
            | PortTooBig | UserMark | UserPart | UserReserved | Never | NumberEnd | NamePrefix
            | NameUnknown | NoBanners | NotDecimal | Scattered | Fail | NoKeyword | FileMissing | Percent => {
                Weight::Warning
            }
            _ => Weight::Error,
        }
    }

    pub(super) const fn is_error(self) -> bool {
        matches!(self.weight(), Weight::Error)
    }

    pub const fn what(self) -> What {
        What(self)
    }

    pub const fn cure(self) -> Cure {
        Cure(self)
    }

    /// Whether [`what`](Fault::what) goes on a sentence that the word in question begins.
    pub(super) const fn is_of_word(self) -> bool {
        use Fault::*;
        !matches!(
            self,
            LineTooLong
                | Nul
                | Dangling
                | NoColon
                | Unbalanced
                | ByteOrderMark
                | CommentGoesOn
                | NoNewline
                | LineOver
                | Shadowed
                | Twice
                | NoDaemons
                | NoClients
                | ExceptNothing
                | ExceptDeep
                | Hash
                | OptionEmpty
        )
    }
}

/// What is wrong; for faults of a word it goes on a sentence that begins with it.
#[derive(Clone, Copy)]
pub struct What(Fault);

told!(What, |of, f| {
    use Fault::*;
    let fault = of.0;
    spell!(
        f,
        match fault {
            LineTooLong => "the line is too long",
            Nul => "a NUL byte",
            Dangling => "no line follows the backslash at the line's end",
            NoColon => "no colon behind the daemons",
            Unbalanced => "a bracket without its other half hides the colons behind it",
            ByteOrderMark => "a byte order mark in front of the first line",
            CommentGoesOn => "the comment above ends in a backslash, which makes this line a part of it",
            NoNewline => "the last line has no line end",
            LineOver => "the line has more than the 2047 bytes that libwrap reads of one",
            Shadowed => "the rule is never reached",
            Twice => "the rule was there before",
            NoDaemons => "no daemon is named",
            NoClients => "no client is named",
            ExceptNothing => "nothing stands on one side of EXCEPT",
            ExceptDeep => "too many EXCEPT in a list",
            Hash => "`#` does not begin a comment here, but a word",
            DaemonPath => "is a path: daemons have names",
            DaemonUnknown => "is no daemon's name here",
            DaemonReserved => "has no special meaning among daemons",
            DaemonMark => "begins with a mark that means nothing among daemons",
            DaemonPart => "begins or ends with a dot: it is a part of names",
            DaemonKnown => "is every daemon",
            UserMark => "begins with a mark that means nothing among users",
            UserPart => "begins or ends with a dot: it is a part of users' names",
            UserReserved => "has no special meaning among users",
            PortTooBig => "is no port, so it is the name of a daemon",
            HostEmpty => "has no host behind the @",
            HostAt => "has more than one @",
            Odd => "has a character that no name and no address has",
            Short => "is not a whole address",
            NotCanonical => "is an address as nobody is ever called",
            BadAddress => "is not an address",
            BareV6 => "is an IPv6 address without brackets",
            Range => "looks like a range, which there is not",
            BadNet => "is not a network",
            ShortNet => "is not a whole network",
            HostBits => "has bits set outside the mask",
            NotDecimal => "has a part that is read as octal or hexadecimal",
            BadMask => "has a mask that is none",
            BadLength => "has a length that is none",
            LengthJunk => "has something behind the length",
            LengthZero => "has length 0, which libwrap refuses",
            AllOnes => "has mask 255.255.255.255, which libwrap takes for a mistake",
            Inverse => "has an inverse mask",
            Scattered => "has a mask with gaps",
            Brackets => "has brackets that do not hold an IPv6 address",
            BracketV4 => "has brackets around an IPv4 address",
            BracketGlob => "has a wildcard inside brackets",
            LengthInside => "has its length inside the brackets",
            Mapped => "is an IPv4 address in IPv6 form, which no client has",
            Zone => "names an interface, and it is not known where the client comes from",
            Hidden => "turns on who the client is, which only the server learns that accepts by itself",
            Fail => "is no longer understood",
            NoKeyword => "is no keyword but the name of a host",
            Never => "names nobody: no address and no name is like that",
            NumberEnd => "is the end of an address",
            NamePrefix => "is the beginning of names, whatever domain they are in",
            NameUnknown => "is a name that leads to no address",
            FileMissing => "is not there: it names nobody",
            FileUnreadable => "cannot be read",
            FileDeep => "leads to too many files",
            InFile => "has a mistake in it",
            WordTooLong => "is longer than any name",
            FileUser => "has a user, which a file does not have",
            FileComma => "has a comma, which separates nothing in a file",
            FileExcept => "means nothing in a file",
            NetgroupEmpty => "has no name of a netgroup behind the @",
            NetgroupUnknown => "is no netgroup of the netgroup file",
            NetgroupUnreadable => "is a netgroup, and their file cannot be read",
            NetgroupDeep => "leads to too many netgroups",
            OptionEmpty => "an option without a name",
            OptionUnknown => "is not an option",
            OptionSpawnWord => "is not an option",
            ValueMissing => "needs a value",
            ValueExtra => "takes no value",
            NotLast => "must be the last option",
            BadNice => "needs a number",
            BadLinger => "needs a number of seconds",
            BadUmask => "needs an octal number up to 777",
            BadTimeout => "needs a number of seconds above 0",
            BadSeverity => "has a facility or level that is not known",
            BadVariable => "needs NAME VALUE, and no `=` in the name",
            NoBanners => "names a directory that is not there",
            OptionsLong => "makes the options of the rule too long",
            NoUser => "names a user who does not exist",
            NotRoot => "changes user or group of a server that does not run as root",
            NoGroup => "names a group that does not exist",
            NamesUnreadable => "names a user or group, and their file cannot be read",
            Percent => "has a % that stands for nothing",
        }
    )
});

/// What to write instead, or what follows from it.
#[derive(Clone, Copy)]
pub struct Cure(Fault);

told!(Cure, |of, f| {
    use Fault::*;
    let fault = of.0;
    spell!(
        f,
        match fault {
            LineTooLong => "make several rules of it, or a file of addresses, named as /PATH",
            Nul => "remove it",
            Dangling => "take it away, or write the rest of the rule",
            NoColon => "write DAEMONS : CLIENTS",
            Unbalanced => "close it",
            ByteOrderMark => "save the file without one",
            CommentGoesOn => "take the backslash away",
            NoNewline => {
                "write one: libwrap does not read the line, and refuses everybody if it is in hosts.deny"
            }
            LineOver => {
                "make several rules of it, or a file of addresses, named as /PATH: libwrap reads no further, and \
                 refuses everybody if it is in hosts.deny"
            }
            Shadowed => "remove it, or put it before the one that says it all",
            Twice => "remove it",
            NoDaemons => "write ALL for every daemon",
            NoClients => "write ALL for every client",
            ExceptNothing => "write ALL EXCEPT ..., or remove the word",
            ExceptDeep => "make several rules of it",
            Hash => "put comments on lines of their own, with # in the first column",
            DaemonPath => "write the last part of the path",
            DaemonUnknown => "see `server` or `libwrap` of the service it is meant for",
            DaemonReserved => "write the daemon's name, or ALL",
            DaemonMark => "remove it",
            DaemonPart => "write the daemon's name, or with a wildcard, as in in.*",
            DaemonKnown => "write ALL",
            UserMark => "remove it",
            UserPart => "write the user's name, or with a wildcard",
            UserReserved => "write the user's name, or ALL",
            PortTooBig => "ports are 0 to 65535",
            HostEmpty => "write one, or ALL",
            HostAt => "write USER@HOST",
            Odd => "write names and addresses with blanks or commas between them",
            Short => "write it with a dot at its end, or as NET/LENGTH",
            NotCanonical => "write it without leading zeros",
            BadAddress => "write four numbers up to 255",
            BareV6 => "write it in [ ]",
            Range => "write the networks it is made of, as NET/LENGTH",
            BadNet | ShortNet => "write four numbers, as in 10.1.0.0/16, or [2001:db8::]/32",
            HostBits => "write zeros there",
            NotDecimal => "write it in decimal",
            BadMask => "write it as 255.255.255.0, or /24",
            BadLength => "write 1 to 32, or 0 to 128 behind an IPv6 network",
            LengthJunk => "write the number alone",
            LengthZero => "write 0.0.0.0/0.0.0.0 for every IPv4 client, or ALL for every client",
            AllOnes => "write the address alone",
            Inverse => "write it as 255.255.255.0, or /24",
            Scattered => "it is taken as it is",
            Brackets => "write [2001:db8::1] or [2001:db8::]/32",
            BracketV4 => "write it without brackets",
            BracketGlob => "write [NET]/LENGTH",
            LengthInside => "write it behind them: [2001:db8::]/32",
            Mapped => "write the IPv4 address",
            Zone => "write the address without its interface",
            Hidden => "write ALL for its clients, or give the service `wait = no`",
            Fail => "write EXCEPT, or the option deny",
            NoKeyword => "write ALL for all, and leave a list out that is to name nobody",
            Never => {
                "write an address, NET/LENGTH, .DOMAIN, or the beginning of an address with a dot behind it"
            }
            NumberEnd => "write NET/LENGTH, if a network is meant",
            NamePrefix => "write the name without the dot at its end, or .DOMAIN for all in a domain",
            NameUnknown => "write the name its address leads back to, or the address",
            FileMissing => "make an empty one if that is meant",
            FileUnreadable => "make it a file that may be read",
            FileDeep => "name files in files at most 8 deep and 64 in all",
            InFile => "see to the words of that file",
            WordTooLong => "names have at most 253 letters",
            FileUser => "write USER@/PATH in the rule",
            FileComma => "write one word to a line",
            FileExcept => "write EXCEPT in the rule",
            NetgroupEmpty => "write @NAME",
            NetgroupUnknown => "add it there; there is no NIS here",
            NetgroupUnreadable => "make it a file that may be read",
            NetgroupDeep => "name netgroups in netgroups at most 8 deep and 64 in all",
            OptionEmpty => "remove the colon, write IPv6 addresses in [ ], and a colon in a value as \\:",
            OptionUnknown => {
                "write IPv6 addresses in [ ], a colon in a value as \\:, and no comment behind a rule"
            }
            OptionSpawnWord => "write `spawn` in front of a command",
            ValueMissing => "write it behind the name",
            ValueExtra => "remove it; a comment needs a line of its own",
            NotLast => "remove what stands behind it",
            BadNice => "such as 5 or -5",
            BadLinger => "0 or more",
            BadUmask => "such as 022",
            BadTimeout => "such as 10",
            BadSeverity => {
                "facilities: kern user mail daemon auth lpr news uucp cron local0-7; levels: emerg alert crit err \
                 warning notice info debug"
            }
            BadVariable => "write setenv NAME VALUE",
            NoBanners => "make it, with a file of the daemon's name in it",
            OptionsLong => {
                "write less: 16 variables, and 4096 bytes in all once % is expanded; or put it into a script"
            }
            NotRoot => "leave `user` and `group` out of rules for it, or let the service run as root",
            NoUser | NoGroup => "add it to the file, or write another",
            NamesUnreadable => "make it a file that may be read",
            Percent => "%a %A %c %d %h %H %n %N %p %r %R %s %S %u and %% are known; others become nothing",
        }
    )
});

// A fault without its word, as a verdict has it.
told!(Fault, |fault, f| {
    if fault.is_of_word() {
        tell!(f, "what stands there ")?;
    }
    tell!(f, "{}; {}", fault.what(), fault.cure())
});
