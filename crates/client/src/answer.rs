//! One answer as it comes in. Whatever way it ends, the client's book learns of it.

use super::{
    client::Shared,
    http::{ClientError, Refusal},
};
use cortensor_protocol::{TaskId, TaskUpdate};
use futures::{StreamExt, stream::BoxStream};
use std::sync::Arc;

/// Largest event of a stream.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A running answer. Dropping it cancels the task.
pub struct Answer {
    task: TaskId,
    shared: Arc<Shared>,
    chunks: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    pending: Vec<u8>,
    /// Bytes of `pending` that hold no line end.
    searched: usize,
    ended: bool,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("task", &self.task).field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.book.lock().end(self.task, false);
        }
    }
}

impl Answer {
    pub(crate) fn new(task: TaskId, shared: Arc<Shared>, response: reqwest::Response) -> Self {
        let chunks = response.bytes_stream().map(|chunk| chunk.map(|bytes| bytes.to_vec())).boxed();
        Self { task, shared, chunks, pending: Vec::new(), searched: 0, ended: false }
    }

    /// The task.
    #[must_use]
    pub const fn task(&self) -> TaskId {
        self.task
    }

    /// The next event, or `None` after the end.
    ///
    /// # Errors
    /// When the connection breaks, or the router sends something else than events, or the task fails.
    pub async fn next(&mut self) -> Result<Option<TaskUpdate>, ClientError> {
        while !self.ended {
            if let Some(line) = self.line() {
                let Some(data) = line.strip_prefix(b"data: ".as_slice()) else { continue };
                let update = serde_json::from_slice(data).map_err(|_| ClientError::Malformed("event"))?;
                return self.note(update).map(Some);
            }
            if self.pending.len() > EVENT_BYTES_MAX {
                return Err(ClientError::Malformed("event: it is too long"));
            }
            match self.chunks.next().await {
                Some(chunk) => self.pending.extend_from_slice(&chunk?),
                None => return Err(ClientError::Malformed("stream: it broke off")),
            }
        }
        Ok(None)
    }

    /// The next piece of text, or `None` after the end.
    ///
    /// # Errors
    /// As [`Answer::next`].
    pub async fn text(&mut self) -> Result<Option<String>, ClientError> {
        while let Some(update) = self.next().await? {
            if let TaskUpdate::Tokens { text, .. } = update {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        let Some(end) = self.pending[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.pending.len();
            return None;
        };
        let mut line: Vec<u8> = self.pending.drain(..=self.searched + end).collect();
        self.searched = 0;
        line.truncate(line.trim_ascii_end().len());
        Some(line)
    }

    fn note(&mut self, update: TaskUpdate) -> Result<TaskUpdate, ClientError> {
        match &update {
            TaskUpdate::Started { .. } => {}
            TaskUpdate::Tokens { tokens, .. } => {
                self.shared.book.lock().receive(self.task, tokens.iter().map(|token| token.id));
            }
            TaskUpdate::Finished { .. } => {
                self.ended = true;
                self.shared.book.lock().end(self.task, true);
            }
            TaskUpdate::Failed { status, code, message } => {
                self.ended = true;
                self.shared.book.lock().end(self.task, false);
                return Err(ClientError::Refused(Refusal {
                    status: *status,
                    code: code.clone(),
                    parameter: None,
                    message: message.clone(),
                    retry_after: None,
                }));
            }
        }
        Ok(update)
    }
}
