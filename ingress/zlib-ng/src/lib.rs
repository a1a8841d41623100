//! zlib-ng's interface, served by zlib-rs.
//!
//! `pingora-core` compiles flate2 with its `zlib-ng` backend, whose bindings build C code with cmake. A newcomer has
//! Rust and nothing else, so the workspace patches the bindings with this crate: the same functions, written in Rust.
//! It goes when Pingora lets us choose the backend.
//!
//! The two interfaces differ in one type: zlib-ng's bindings declare the allocator hooks of [`z_stream`] as plain
//! function pointers, zlib-rs as optional ones. Both have the same layout (checked below), so a stream is handed on
//! by casting its pointer.
#![allow(non_camel_case_types, non_snake_case, clippy::missing_safety_doc)]

use std::ffi::{c_char, c_int, c_uint, c_ulong};
use std::mem::{align_of, offset_of, size_of};

pub use libz_rs_sys::{
    Bytef, Z_BLOCK, Z_BUF_ERROR, Z_DATA_ERROR, Z_DEFAULT_STRATEGY, Z_DEFLATED, Z_FINISH, Z_FULL_FLUSH, Z_MEM_ERROR,
    Z_NEED_DICT, Z_NO_FLUSH, Z_OK, Z_PARTIAL_FLUSH, Z_STREAM_END, Z_STREAM_ERROR, Z_SYNC_FLUSH, alloc_func, free_func,
    internal_state, uInt, uLong, voidpf, zlibVersion,
};

/// A compression or decompression in progress, as `zlib.h` lays it out.
#[repr(C)]
#[derive(Copy, Clone)]
#[expect(missing_docs, reason = "the fields are zlib.h's")]
pub struct z_stream {
    pub next_in: *mut Bytef,
    pub avail_in: uInt,
    pub total_in: c_ulong,
    pub next_out: *mut Bytef,
    pub avail_out: uInt,
    pub total_out: c_ulong,
    pub msg: *mut c_char,
    pub state: *mut internal_state,
    pub zalloc: alloc_func,
    pub zfree: free_func,
    pub opaque: voidpf,
    pub data_type: c_int,
    pub adler: c_ulong,
    pub reserved: uLong,
}

/// A stream by address.
pub type z_streamp = *mut z_stream;

// The casts below are sound only while the two layouts agree.
const _: () = {
    type Inner = libz_rs_sys::z_stream;
    assert!(size_of::<z_stream>() == size_of::<Inner>() && align_of::<z_stream>() == align_of::<Inner>());
    assert!(offset_of!(z_stream, next_in) == offset_of!(Inner, next_in));
    assert!(offset_of!(z_stream, total_out) == offset_of!(Inner, total_out));
    assert!(offset_of!(z_stream, state) == offset_of!(Inner, state));
    assert!(offset_of!(z_stream, zalloc) == offset_of!(Inner, zalloc));
    assert!(offset_of!(z_stream, adler) == offset_of!(Inner, adler));
    assert!(size_of::<alloc_func>() == size_of::<Option<alloc_func>>() && size_of::<c_uint>() == size_of::<uInt>());
};

/// Hands each function on to zlib-rs.
macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {$(
        #[doc = concat!("`", stringify!($name), "` of `zlib.h`.")]
        ///
        /// # Safety
        ///
        /// As `zlib.h` says: the stream and the buffers it names are valid for the call.
        pub unsafe extern "C" fn $name(stream: z_streamp $(, $arg: $type)*) -> c_int {
            // SAFETY: the caller keeps zlib's contract, and the layouts agree (checked above).
            unsafe { libz_rs_sys::$name(stream.cast() $(, $arg)*) }
        }
    )*};
}

forward! {
    deflate(flush: c_int);
    deflateEnd();
    deflateReset();
    deflateInit2_(
        level: c_int, method: c_int, window_bits: c_int, mem_level: c_int, strategy: c_int,
        version: *const c_char, stream_size: c_int
    );
    deflateParams(level: c_int, strategy: c_int);
    deflateSetDictionary(dictionary: *const Bytef, length: uInt);
    inflate(flush: c_int);
    inflateEnd();
    inflateInit2_(window_bits: c_int, version: *const c_char, stream_size: c_int);
    inflateReset2(window_bits: c_int);
    inflateSetDictionary(dictionary: *const Bytef, length: uInt);
}
