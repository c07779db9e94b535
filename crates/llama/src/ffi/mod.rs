//! The calls into llama.cpp, behind types that cannot be misused from safe code.
//!
//! Guarantees: handles are freed once, a context keeps its model alive, slices never outlive the call that invalidates
//! them, and llama.cpp's log goes to `tracing`. Does not guarantee that llama.cpp itself never aborts: a failed assertion
//! inside it ends the process, so callers check lengths, ids and positions before they call.
#![allow(unsafe_code)]

mod context;
mod model;
mod quantise;
mod reference;

pub(crate) use context::{Batch, Context, ContextParams, DecodeError, SequenceId};
pub(crate) use model::{Model, ModelParams};
pub(crate) use quantise::quantise;

use llama_cpp_sys_2 as sys;
use std::{
    ffi::{CStr, c_char, c_void},
    sync::Once,
};

/// Initialises llama.cpp once for the process and sends its log to `tracing`.
pub(crate) fn initialise() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: called once, before any other call; the callback is a static function that needs no user data.
        unsafe {
            sys::llama_log_set(Some(log), std::ptr::null_mut());
            sys::llama_backend_init();
        }
    });
}

/// llama.cpp's version, such as `b7001`.
pub(crate) fn version() -> String {
    // SAFETY: returns a static string of the library.
    let text = unsafe { sys::llama_version() };
    if text.is_null() {
        return "unknown".into();
    }
    // SAFETY: not null, null-terminated and static.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Instruction sets that ggml's CPU kernels were compiled for, such as `avx2 f16c fma`; kernels are chosen by them when
/// the library is built.
pub(crate) fn instruction_sets() -> Vec<String> {
    // SAFETY: the text is the library's own, null-terminated, and valid until the next call, which `initialise`'s callers
    // do not make at once.
    let text = unsafe { CStr::from_ptr(sys::llama_print_system_info()) }.to_string_lossy().into_owned();
    // `CPU : SSE3 = 1 | AVX = 1 | OPENMP = 1 | REPACK = 1 |`: the last two are no instruction sets.
    let text = text.split_once("CPU : ").map_or("", |(_, cpu)| cpu);
    let mut names: Vec<String> = text
        .split('|')
        .filter_map(|entry| entry.trim().strip_suffix(" = 1"))
        .filter(|name| !["LLAMAFILE", "OPENMP", "REPACK", "ACCELERATE", "KLEIDIAI", "CPU_HBM"].contains(name))
        .map(str::to_lowercase)
        .collect();
    names.sort_unstable();
    names
}

/// Names of the devices that ggml sees, such as `CPU` or `CUDA0`.
pub(crate) fn devices() -> Vec<String> {
    // SAFETY: the registry is filled by `initialise` and only read here; names are static strings.
    let count = unsafe { sys::ggml_backend_dev_count() };
    (0..count)
        .filter_map(|index| {
            // SAFETY: `index` is below the count.
            let name = unsafe { sys::ggml_backend_dev_name(sys::ggml_backend_dev_get(index)) };
            // SAFETY: checked for null, null-terminated and static.
            (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
        })
        .collect()
}

extern "C" fn log(level: sys::ggml_log_level, text: *const c_char, _user: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: not null; llama.cpp passes a null-terminated string that lives through the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let text = text.trim_end();
    if text.is_empty() || text.bytes().all(|byte| byte == b'.') {
        return;
    }
    // One level lower than llama.cpp's own: its "info" is what an operator reads only when looking for a fault.
    match level {
        sys::GGML_LOG_LEVEL_ERROR => tracing::error!(target: "llama.cpp", "{text}"),
        sys::GGML_LOG_LEVEL_WARN => tracing::debug!(target: "llama.cpp", "{text}"),
        _ => tracing::trace!(target: "llama.cpp", "{text}"),
    }
}
