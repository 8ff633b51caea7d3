//! Bytes on paper.

use data_encoding::HEXLOWER;
use minicbor::Decoder;
use minicbor::data::Type;

/// Bytes of one line.
const WIDTH: usize = 32;

/// An example that is being written.
#[derive(Default)]
pub struct Paper(String);

impl Paper {
    pub fn new() -> Paper {
        Paper::default()
    }

    pub fn line(&mut self, text: &str) -> &mut Paper {
        self.0.push_str(text.trim_end());
        self.0.push('\n');
        self
    }

    /// A heading with how many bytes follow, and the bytes.
    pub fn block(&mut self, what: &str, bytes: &[u8]) -> &mut Paper {
        self.line(&format!("{what} ({} bytes)", bytes.len()));
        for line in bytes.chunks(WIDTH) {
            self.line(&format!("  {}", HEXLOWER.encode(line)));
        }
        self
    }

    /// A few bytes and what they are.
    pub fn field(&mut self, bytes: &[u8], what: &str) -> &mut Paper {
        let mut chunks = bytes.chunks(WIDTH);
        let first = HEXLOWER.encode(chunks.next().unwrap_or_default());
        self.line(&format!("  {first:<24}  {what}"));
        for line in chunks {
            self.line(&format!("  {}", HEXLOWER.encode(line)));
        }
        self
    }

    /// Canonical CBOR, its bytes and what they say.
    pub fn cbor(&mut self, what: &str, bytes: &[u8]) -> &mut Paper {
        self.block(what, bytes);
        self.reading(bytes)
    }

    /// What canonical CBOR says (RFC 8949, diagnostic notation).
    pub fn reading(&mut self, bytes: &[u8]) -> &mut Paper {
        let mut decoder = Decoder::new(bytes);
        self.value(&mut decoder, 1, "");
        assert_eq!(decoder.position(), bytes.len(), "one value");
        self
    }

    fn value(&mut self, from: &mut Decoder<'_>, depth: usize, before: &str) {
        let indent = "  ".repeat(depth);
        match from.datatype().unwrap() {
            Type::Array => {
                let len = from.array().unwrap().unwrap();
                self.line(&format!("{indent}{before}["));
                for _ in 0..len {
                    self.value(from, depth + 1, "");
                }
                self.line(&format!("{indent}]"));
            }
            Type::Map => {
                let len = from.map().unwrap().unwrap();
                self.line(&format!("{indent}{before}{{"));
                for _ in 0..len {
                    let key = from.u64().unwrap();
                    self.value(from, depth + 1, &format!("{key}: "));
                }
                self.line(&format!("{indent}}}"));
            }
            Type::Bytes => {
                let bytes = from.bytes().unwrap();
                let shown = &bytes[..bytes.len().min(WIDTH)];
                let more = match bytes.len() - shown.len() {
                    0 => String::new(),
                    left => format!(" … {left} more"),
                };
                self.line(&format!(
                    "{indent}{before}h'{}'{more}",
                    HEXLOWER.encode(shown)
                ));
            }
            Type::String => {
                let text = from.str().unwrap();
                self.line(&format!("{indent}{before}\"{text}\""));
            }
            Type::Bool => {
                let value = from.bool().unwrap();
                self.line(&format!("{indent}{before}{value}"));
            }
            Type::Null => {
                from.null().unwrap();
                self.line(&format!("{indent}{before}null"));
            }
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => {
                let value = from.u64().unwrap();
                self.line(&format!("{indent}{before}{value}"));
            }
            other @ (Type::Undefined
            | Type::I8
            | Type::I16
            | Type::I32
            | Type::I64
            | Type::Int
            | Type::F16
            | Type::F32
            | Type::F64
            | Type::Simple
            | Type::BytesIndef
            | Type::StringIndef
            | Type::ArrayIndef
            | Type::MapIndef
            | Type::Tag
            | Type::Break
            | Type::Unknown(_)) => panic!("{other:?} is nowhere in the protocol"),
        }
    }

    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.0)
    }
}
