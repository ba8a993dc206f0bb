//! Frames on a pipe: four bytes with the length in little-endian order, and as many bytes of JSON.

use std::io::{self, Read, Write};

/// The longest frame in bytes.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// Reads a frame. `None` at the end of the pipe.
///
/// # Errors
/// If the pipe fails or ends within a frame, or if the frame is longer than [`FRAME_BYTES_MAX`].
pub fn read(pipe: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match pipe.read(&mut length[..1])? {
        0 => return Ok(None),
        _ => pipe.read_exact(&mut length[1..])?,
    }
    let length = decode_length(length)?;
    let mut frame = vec![0; length];
    pipe.read_exact(&mut frame)?;
    Ok(Some(frame))
}

/// Writes a frame.
///
/// # Errors
/// If the pipe fails, or if the frame is longer than [`FRAME_BYTES_MAX`].
pub fn write(pipe: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    pipe.write_all(&encode_length(frame)?)?;
    pipe.write_all(frame)?;
    pipe.flush()
}

/// The four bytes before a frame.
///
/// # Errors
/// If the frame is longer than [`FRAME_BYTES_MAX`].
pub fn encode_length(frame: &[u8]) -> io::Result<[u8; 4]> {
    let length = u32::try_from(frame.len()).ok().filter(|_| frame.len() <= FRAME_BYTES_MAX);
    length.map(u32::to_le_bytes).ok_or_else(too_long)
}

/// The length that four bytes announce.
///
/// # Errors
/// If it is larger than [`FRAME_BYTES_MAX`].
pub fn decode_length(bytes: [u8; 4]) -> io::Result<usize> {
    let length = usize::try_from(u32::from_le_bytes(bytes)).map_err(|_| too_long())?;
    if length > FRAME_BYTES_MAX { Err(too_long()) } else { Ok(length) }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a frame is longer than {FRAME_BYTES_MAX} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let mut pipe = Vec::new();
        for frame in [&b"{}"[..], b"", b"[1]"] {
            write(&mut pipe, frame).unwrap();
        }
        let mut pipe = pipe.as_slice();
        for frame in [&b"{}"[..], b"", b"[1]"] {
            assert_eq!(read(&mut pipe).unwrap().as_deref(), Some(frame));
        }
        assert_eq!(read(&mut pipe).unwrap(), None);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for broken in [&[1, 0, 0][..], &[2, 0, 0, 0, b'x'], &[0xff; 9]] {
            assert!(read(&mut &*broken).is_err(), "{broken:?}");
        }
        assert!(encode_length(&vec![0; FRAME_BYTES_MAX + 1]).is_err());
    }
}
