//! The one key of an endpoint that serves its own machine: `cortensor serve` and `cortensor session serve`. A router's keys,
//! of which there are many, are in [`crate::router::keys`].

use cortensor_gateway::{Caller, Credentials, ServiceError};
use cortensor_protocol::SessionId;

/// The key that clients must show, as its hash; none lets everybody in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndpointKey(Option<blake3::Hash>);

impl EndpointKey {
    pub(crate) fn new(key: Option<&str>) -> Self {
        Self(key.map(|key| blake3::hash(key.as_bytes())))
    }

    /// Lets a client in that shows the key; `session` is what pays for it.
    pub(crate) fn admit(&self, credentials: &Credentials, session: SessionId) -> Result<Caller, ServiceError> {
        if let Some(expected) = self.0 {
            let missing =
                || ServiceError::Unauthorized("no API key was given: send it as `Authorization: Bearer …`".into());
            let given = credentials.api_key.as_deref().ok_or_else(missing)?;
            // Hashes of this type are compared in constant time.
            if blake3::hash(given.as_bytes()) != expected {
                return Err(ServiceError::Unauthorized("this is not the API key of this endpoint".into()));
            }
        }
        Ok(Caller { key_id: "local".into(), session, admin: true })
    }
}
