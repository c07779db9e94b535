//! Writing a model file in another quantisation.

use llama_cpp_sys_2 as sys;
use std::{ffi::CString, path::Path};

/// Writes `from` to `to` as `file_type`. `false` when llama.cpp refuses; the reason is in its log.
pub(crate) fn quantise(from: &Path, to: &Path, file_type: sys::llama_ftype, threads: i32) -> bool {
    let path = |path: &Path| CString::new(path.as_os_str().as_encoded_bytes());
    let (Ok(from), Ok(to)) = (path(from), path(to)) else { return false };
    // SAFETY: plain data.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.ftype = file_type;
    params.nthread = threads;
    // Also from a file that is quantised already, as somebody would who serves less than was published.
    params.allow_requantize = true;
    // SAFETY: both paths are null-terminated; every pointer in `params` is the library's own default.
    unsafe { sys::llama_model_quantize(from.as_ptr(), to.as_ptr(), &raw const params) == 0 }
}
