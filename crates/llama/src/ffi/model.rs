//! A loaded model and its vocabulary. Immutable and shared between threads.

use cortensor_protocol::TokenId;
use llama_cpp_sys_2 as sys;
use std::{
    ffi::CString,
    path::Path,
    ptr::{self, NonNull},
};

/// How a model is loaded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ModelParams {
    /// Layers that are put on a GPU, where the build has one; `None` puts all there.
    pub(crate) gpu_layers: Option<u32>,
    /// Whether the weights are locked in memory.
    pub(crate) lock_memory: bool,
    /// Whether the weights stay as they are in the file, on the CPU: repacked ones have kernels that depend on the batch.
    pub(crate) exact: bool,
}

/// A loaded model.
pub(crate) struct Model {
    ptr: NonNull<sys::llama_model>,
    vocab: NonNull<sys::llama_vocab>,
}

// SAFETY: nothing here mutates the model after loading; llama.cpp documents tokenisation and the getters as thread-safe.
// Contexts, which do mutate, are created by one thread only (see `Context::new`).
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

impl Model {
    /// Loads a GGUF file. `None` when llama.cpp refuses it; the reason is in the log.
    pub(crate) fn load(path: &Path, wanted: ModelParams) -> Option<Self> {
        let path = CString::new(path.as_os_str().as_encoded_bytes()).ok()?;
        // SAFETY: plain data.
        let mut params = unsafe { sys::llama_model_default_params() };
        params.n_gpu_layers = wanted.gpu_layers.map_or(-1, |layers| i32::try_from(layers).unwrap_or(i32::MAX));
        if wanted.lock_memory {
            params.load_mode = sys::LLAMA_LOAD_MODE_MMAP_MLOCK;
        }
        // An empty list of devices beside the CPU.
        let mut no_devices = [ptr::null_mut(); 1];
        if wanted.exact {
            params.devices = no_devices.as_mut_ptr();
            params.n_gpu_layers = 0;
            params.use_extra_bufts = false;
        }
        // SAFETY: the path is null-terminated; the list of devices is, too, and outlives the call; every other pointer in
        // `params` is the library's own default.
        let ptr = NonNull::new(unsafe { sys::llama_model_load_from_file(path.as_ptr(), params) })?;
        // SAFETY: the model is loaded; the vocabulary lives as long as it.
        let vocab = NonNull::new(unsafe { sys::llama_model_get_vocab(ptr.as_ptr()) }.cast_mut())?;
        Some(Self { ptr, vocab })
    }

    pub(super) fn as_ptr(&self) -> *mut sys::llama_model {
        self.ptr.as_ptr()
    }

    /// Size of the vocabulary.
    pub(crate) fn vocabulary(&self) -> usize {
        // SAFETY: the vocabulary lives as long as `self`.
        usize::try_from(unsafe { sys::llama_vocab_n_tokens(self.vocab.as_ptr()) }).unwrap_or(0)
    }

    /// Bytes of all weights.
    pub(crate) fn weight_bytes(&self) -> u64 {
        // SAFETY: the model lives as long as `self`.
        unsafe { sys::llama_model_size(self.as_ptr()) }
    }

    /// Context length that the model was trained for.
    pub(crate) fn context_trained(&self) -> u32 {
        // SAFETY: the model lives as long as `self`.
        u32::try_from(unsafe { sys::llama_model_n_ctx_train(self.as_ptr()) }).unwrap_or(0)
    }

    /// Width of the embeddings that it returns.
    pub(crate) fn embedding_length(&self) -> usize {
        // SAFETY: the model lives as long as `self`.
        usize::try_from(unsafe { sys::llama_model_n_embd_out(self.as_ptr()) }).unwrap_or(0)
    }

    /// Whether a part of a sequence's memory can be removed and copied: not with recurrent state.
    pub(crate) fn memory_divisible(&self) -> bool {
        // SAFETY: the model lives as long as `self`.
        unsafe { !sys::llama_model_is_recurrent(self.as_ptr()) && !sys::llama_model_is_hybrid(self.as_ptr()) }
    }

    /// Whether some layers see only the newest tokens, so that their memory is overwritten in a circle.
    pub(crate) fn sliding_window(&self) -> bool {
        // SAFETY: the model lives as long as `self`.
        unsafe { sys::llama_model_n_swa(self.as_ptr()) > 0 }
    }

    /// Whether it writes text token by token.
    pub(crate) fn generates(&self) -> bool {
        // SAFETY: the model lives as long as `self`.
        unsafe {
            sys::llama_model_has_decoder(self.as_ptr())
                && !sys::llama_model_has_encoder(self.as_ptr())
                && !sys::llama_model_is_diffusion(self.as_ptr())
        }
    }

    /// The beginning-of-sequence token, and whether the tokenizer puts it before a text.
    pub(crate) fn bos(&self) -> (Option<TokenId>, bool) {
        // SAFETY: the vocabulary lives as long as `self`.
        let (bos, add) =
            unsafe { (sys::llama_vocab_bos(self.vocab.as_ptr()), sys::llama_vocab_get_add_bos(self.vocab.as_ptr())) };
        (TokenId::try_from(bos).ok(), add)
    }

    /// The end-of-sequence token.
    pub(crate) fn eos(&self) -> Option<TokenId> {
        // SAFETY: the vocabulary lives as long as `self`.
        TokenId::try_from(unsafe { sys::llama_vocab_eos(self.vocab.as_ptr()) }).ok()
    }

    /// Whether `token` ends a generation. `token` must be below [`Model::vocabulary`].
    pub(crate) fn ends_generation(&self, token: TokenId) -> bool {
        let token = self.checked(token);
        // SAFETY: the id is in range.
        unsafe { sys::llama_vocab_is_eog(self.vocab.as_ptr(), token) }
    }

    /// Whether `token` is a control token. `token` must be below [`Model::vocabulary`].
    pub(crate) fn is_control(&self, token: TokenId) -> bool {
        let token = self.checked(token);
        // SAFETY: the id is in range.
        unsafe { sys::llama_vocab_is_control(self.vocab.as_ptr(), token) }
    }

    /// Appends the bytes of `token`, special ones as they are written. `token` must be below [`Model::vocabulary`].
    pub(crate) fn piece(&self, token: TokenId, out: &mut Vec<u8>) {
        let token = self.checked(token);
        let start = out.len();
        let mut room = 32_i32;
        for _ in 0..2 {
            out.resize(start + usize::try_from(room).unwrap_or(0), 0);
            // SAFETY: the id is in range and the buffer has `room` bytes from `start`.
            let wrote = unsafe {
                let target = out.as_mut_ptr().add(start).cast();
                sys::llama_token_to_piece(self.vocab.as_ptr(), token, target, room, 0, true)
            };
            if let Ok(wrote) = usize::try_from(wrote) {
                out.truncate(start + wrote);
                return;
            }
            room = -wrote;
        }
        out.truncate(start);
    }

    /// The tokens of `text`. `special`: read special tokens written in the text as such; `bos`: let the tokenizer add
    /// what the model expects before a text. `None` when the text is longer than llama.cpp can count.
    pub(crate) fn tokenize(&self, text: &str, bos: bool, special: bool) -> Option<Vec<TokenId>> {
        let length = i32::try_from(text.len()).ok()?;
        let mut tokens: Vec<sys::llama_token> = vec![0; text.len() / 2 + 8];
        for _ in 0..2 {
            let room = i32::try_from(tokens.len()).ok()?;
            // SAFETY: text and buffer are passed with their lengths; llama.cpp writes at most `room` tokens.
            let count = unsafe {
                let (text, out) = (text.as_ptr().cast(), tokens.as_mut_ptr());
                sys::llama_tokenize(self.vocab.as_ptr(), text, length, out, room, bos, special)
            };
            if let Ok(count) = usize::try_from(count) {
                return tokens[..count].iter().map(|&token| TokenId::try_from(token).ok()).collect();
            }
            tokens.resize(usize::try_from(count.checked_neg()?).ok()?, 0);
        }
        None
    }

    fn checked(&self, token: TokenId) -> sys::llama_token {
        assert!((token as usize) < self.vocabulary(), "token {token} is outside the vocabulary");
        token.cast_signed()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: loaded by `load`, freed once; contexts hold an `Arc` of the model, so none is left.
        unsafe { sys::llama_model_free(self.ptr.as_ptr()) }
    }
}
