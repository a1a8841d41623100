//! Reads one manifest file whole, or says why not.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use config::diagnostic::{Place, Problem};

use crate::mirror::Reading;

/// The largest file that is read, in bytes; a `ConfigMap` or Secret has at most 1 MiB.
pub(crate) const MAX_BYTES: u64 = 16 << 20;
/// How often a file that changes while it is read is read again.
const ATTEMPTS: usize = 3;

/// Why a file has no text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is neither a file nor a folder; remove it or give it another name")]
    NotAFile,
    #[error("it has {size} bytes, and at most {MAX_BYTES} are read; split it")]
    TooLarge { size: u64 },
    #[error("it keeps changing while it is read; it will be read again")]
    Changing,
    #[error("it is not UTF-8 text: the byte here is 0x{byte:02x}; save it as UTF-8")]
    Encoding { line: u32, column: u32, byte: u8 },
}

impl ReadError {
    /// The file's reading, for its name.
    pub(crate) fn reading(&self, name: &Arc<str>) -> Reading {
        let (line, column) = self.position();
        Reading::Failed(Problem::in_file(Place { file: Arc::clone(name), line, column }, self))
    }

    /// Line and column of what is wrong, from 1.
    const fn position(&self) -> (u32, u32) {
        match self {
            Self::Encoding { line, column, .. } => (*line, *column),
            Self::Io(_) | Self::NotAFile | Self::TooLarge { .. } | Self::Changing => (1, 1),
        }
    }
}

/// Tells versions of a file apart without reading it. The change time cannot be set back as the modification time
/// can (`cp -p`), and a rename over the file brings another inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Signature {
    pub(crate) fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// Reads a file, in one version of it.
pub(crate) fn read_file(path: &Path) -> Result<Arc<str>, ReadError> {
    for _ in 0..ATTEMPTS {
        // Opening a pipe would wait for its writer.
        if !path.metadata()?.is_file() {
            return Err(ReadError::NotAFile);
        }
        let mut file = File::open(path)?;
        let before = Signature::of(&file.metadata()?);
        let bytes = read_limited(&mut file)?;
        if Signature::of(&file.metadata()?) == before {
            return text(bytes);
        }
    }
    Err(ReadError::Changing)
}

/// Reads up to the limit.
pub(crate) fn read_limited(source: &mut dyn Read) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    source.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        size if size > MAX_BYTES => Err(ReadError::TooLarge { size }),
        _ => Ok(bytes),
    }
}

/// The bytes as text, or the place of the first that is none.
pub(crate) fn text(bytes: Vec<u8>) -> Result<Arc<str>, ReadError> {
    let error = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text.into()),
        Err(error) => error,
    };
    let valid = error.utf8_error().valid_up_to();
    let bytes = error.into_bytes();
    let before = String::from_utf8_lossy(&bytes[..valid]);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Err(ReadError::Encoding { line: number(line), column: number(column), byte: bytes[valid] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_is_no_text_is_named_with_its_place() {
        let error = text(b"kind: Service\nname: \xc3\xa4\xff".to_vec()).unwrap_err();
        assert!(matches!(error, ReadError::Encoding { line: 2, column: 8, byte: 0xff }), "{error:?}");
        assert_eq!(error.position(), (2, 8));
    }

    #[test]
    fn endless_input_is_cut_at_the_limit() {
        assert!(matches!(read_limited(&mut io::repeat(b' ')), Err(ReadError::TooLarge { .. })));
        assert!(matches!(read_file(Path::new("/dev/zero")), Err(ReadError::NotAFile)));
    }
}
