//! For tests: reads events as libsinsp does, and refuses what would end it. Written apart from the encoder, which
//! shares nothing with it but the table.

use super::table::{self, Emptiness, EventInfo, ParamType};

/// One event, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen<'a> {
    pub(crate) info: &'static EventInfo,
    pub(crate) ts: u64,
    pub(crate) tid: i64,
    pub(crate) params: Vec<&'a [u8]>,
}

impl<'a> Seen<'a> {
    pub(crate) fn param(&self, name: &str) -> &'a [u8] {
        let index = self.info.params.iter().position(|param| param.name == name);
        self.params[index.unwrap_or_else(|| panic!("{} has no {name}", self.info.name))]
    }

    /// A number of whatever width, sign-extended where its type has a sign.
    pub(crate) fn number(&self, name: &str) -> i64 {
        let data = self.param(name);
        match data.len() {
            1 => i64::from(data[0]),
            2 => i64::from(u16::from_ne_bytes(data.try_into().unwrap())),
            4 => i64::from(u32::from_ne_bytes(data.try_into().unwrap())),
            8 => i64::from_ne_bytes(data.try_into().unwrap()),
            _ => panic!("{}.{name} is no number: {data:?}", self.info.name),
        }
    }

    /// A string without its NUL, `<NA>` for an empty parameter, as Falco shows it.
    pub(crate) fn text(&self, name: &str) -> String {
        match self.param(name).split_last() {
            Some((0, text)) => String::from_utf8_lossy(text).into_owned(),
            Some(_) => panic!("{}.{name} does not end in a NUL", self.info.name),
            None => "<NA>".to_owned(),
        }
    }
}

/// Takes a run of events apart.
pub(crate) fn read(mut bytes: &[u8]) -> Vec<Seen<'_>> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let (event, rest) = read_one(bytes);
        events.push(event);
        bytes = rest;
    }
    events
}

fn read_one(bytes: &[u8]) -> (Seen<'_>, &[u8]) {
    let u16_at = |at: usize| u16::from_ne_bytes(bytes[at..at + 2].try_into().unwrap());
    let ts = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
    let tid = i64::from_ne_bytes(bytes[8..16].try_into().unwrap());
    let len = u32::from_ne_bytes(bytes[16..20].try_into().unwrap()) as usize;
    let code = u16_at(20);
    let count = u32::from_ne_bytes(bytes[22..26].try_into().unwrap()) as usize;
    let info = table::by_code(code).unwrap_or_else(|| panic!("{code} is no event"));
    assert_eq!(count, info.params.len(), "{}: number of parameters", info.name);
    assert!(len <= 65_536, "{} has {len} bytes", info.name);
    let mut at = 26 + 2 * count;
    let mut params = Vec::new();
    for index in 0..count {
        let param_len = usize::from(u16_at(26 + 2 * index));
        params.push(&bytes[at..at + param_len]);
        at += param_len;
    }
    assert_eq!(at, len, "{}: length", info.name);
    let event = Seen { info, ts, tid, params };
    check(&event);
    (event, &bytes[len..])
}

fn check(event: &Seen<'_>) {
    for (param, data) in event.info.params.iter().zip(&event.params) {
        let name = format!("{}.{}", event.info.name, param.name);
        if data.is_empty() {
            assert_ne!(param.emptiness, Emptiness::Never, "{name} is empty");
            let is_kin = |other: &table::Param| other.emptiness == param.emptiness;
            if let Emptiness::Group(_) = param.emptiness {
                let mut kin = event.info.params.iter().zip(&event.params).filter(|(other, _)| is_kin(other));
                assert!(kin.all(|(_, data)| data.is_empty()), "{name} is empty and its kin are not");
            }
            continue;
        }
        check_data(&name, param.kind, data);
    }
    if let Some(at) = event.info.params.iter().position(|param| param.name == "args") {
        assert!(event.params[at - 1].len() + event.params[at].len() <= 4096, "exe and args are too long");
    }
}

fn check_data(name: &str, kind: ParamType, data: &[u8]) {
    let c_string = |data: &[u8]| data.iter().position(|&byte| byte == 0) == Some(data.len() - 1);
    let is_right = match kind {
        ParamType::Fd | ParamType::Errno | ParamType::Pid | ParamType::Int64 | ParamType::Uint64 => {
            data.len() == 8
        }
        ParamType::AbsTime => data.len() == 8,
        ParamType::Int32 | ParamType::Uint32 | ParamType::Uid | ParamType::Gid | ParamType::Mode => {
            data.len() == 4
        }
        ParamType::Flags32 | ParamType::EnumFlags32 => data.len() == 4,
        ParamType::Flags16 | ParamType::EnumFlags16 => data.len() == 2,
        ParamType::Uint8 | ParamType::SigType | ParamType::EnumFlags8 => data.len() == 1,
        ParamType::CharBuf | ParamType::FsPath | ParamType::FsRelPath => data.len() <= 4096 && c_string(data),
        ParamType::ByteBuf => data.len() <= 4096,
        ParamType::SockAddr => match data[0] {
            1 => data.len() <= 110 && c_string(&data[1..]),
            2 => data.len() == 7,
            10 => data.len() == 19,
            _ => false,
        },
        ParamType::SockTuple => match data[0] {
            1 => data.len() >= 18 && c_string(&data[17..]),
            2 => data.len() == 13,
            10 => data.len() == 37,
            _ => data.len() == 18 && data[1..].iter().all(|&byte| byte == 0),
        },
        ParamType::DynPtrace => matches!((data[0], data.len()), (0, 9) | (1, 2)),
        ParamType::DynOption => matches!((data[0], data.len()), (1 | 3 | 4, 9) | (2, 5)),
    };
    assert!(is_right, "{name} is a {kind:?} of {} bytes: {data:?}", data.len());
}
