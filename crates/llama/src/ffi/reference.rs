//! The switch of ggml's CPU backend that leaves out kernels which are chosen by the size of the batch.
//!
//! `ggml_backend_cpu_set_use_ref` belongs to a backend, and so to one context: it leaves out llamafile's and the tiled matrix
//! products, tiled and split flash attention, and fused operations. What remains computes every row by itself, in one order.
//! It is chosen here for each context, so that engines of both kinds can live in one process. llama.cpp has no C function
//! that leads from a context to its backends; its C++ method is called by its mangled name, which is the same for GCC and
//! Clang and fails to link should a later version lack it. With Microsoft's compiler, contexts cannot be exact.

use llama_cpp_sys_2 as sys;
use std::ptr::NonNull;

#[cfg(not(target_env = "msvc"))]
unsafe extern "C" {
    /// `ggml_backend_sched_t llama_context::get_sched() const`.
    #[link_name = "_ZNK13llama_context9get_schedEv"]
    fn llama_context_get_sched(context: *const sys::llama_context) -> sys::ggml_backend_sched_t;
}

/// Switches all backends of `context` to reference kernels. `false`: it has one that is not ggml's CPU backend.
#[cfg(not(target_env = "msvc"))]
pub(super) fn choose(context: NonNull<sys::llama_context>) -> bool {
    // SAFETY: the context is alive; its scheduler and backends live as long as it, and a method without arguments takes
    // `this` as a C function takes its first argument.
    unsafe {
        let scheduler = llama_context_get_sched(context.as_ptr());
        if scheduler.is_null() || sys::ggml_backend_sched_get_n_backends(scheduler) != 1 {
            return false;
        }
        let backend = sys::ggml_backend_sched_get_backend(scheduler, 0);
        if !sys::ggml_backend_is_cpu(backend) {
            return false;
        }
        sys::ggml_backend_cpu_set_use_ref(backend, true);
    }
    true
}

/// There is no way to a context's backends.
#[cfg(target_env = "msvc")]
pub(super) fn choose(_context: NonNull<sys::llama_context>) -> bool {
    false
}
