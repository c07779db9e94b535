//! What an operator can set of the HTTP API. Every bound of the gateway stands here; none is optional in effect.

use std::time::Duration;

/// Which web pages of other origins may call the API from a browser.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Cors {
    /// None: no CORS headers are sent.
    #[default]
    Off,
    /// Any origin. Keys are sent in headers, never in cookies, so this gives a page nothing that it does not hold.
    Any,
    /// These origins, such as `https://app.example`.
    Origins(Vec<String>),
}

/// Settings of the HTTP API. `Default` suits a public router on one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Most bytes of a request body; larger ones get 413.
    pub body_bytes_max: usize,
    /// Deepest nesting of arrays and objects in a request body.
    pub json_depth_max: usize,
    /// Time that a client has to send a request's head; also how long an idle connection is kept.
    pub header_timeout: Duration,
    /// Time that a client has to send a request's body.
    pub body_timeout: Duration,
    /// How long a client may refuse to read before it is cut off.
    pub write_timeout: Duration,
    /// Connections at once; more wait in the listener's backlog.
    pub connections_max: usize,
    /// Requests at once, streams included; more get 429.
    pub in_flight_max: usize,
    /// Requests at once of one key; more get 429.
    pub key_in_flight_max: usize,
    /// Requests a second of one key, on average; 0 means no limit.
    pub key_requests_per_second: u32,
    /// Requests that one key may send at once after a pause, if there is a rate.
    pub key_burst: u32,
    /// Most generations that one request may begin: `n` times the number of prompts.
    pub choices_max: usize,
    /// Most texts of one embeddings request.
    pub embedding_inputs_max: usize,
    /// Output tokens where the client sets no limit; less where the model's context is shorter.
    pub default_max_tokens: u32,
    /// Silence on a stream after which a comment is sent, so that proxies keep it open.
    pub keep_alive: Duration,
    /// How long the head of a streamed answer waits for the first event, so that an early failure gets its own status.
    pub first_event_wait: Duration,
    /// Silence of the service after which a stream is given up.
    pub stall_timeout: Duration,
    /// Longest time to the end of an answer that is not streamed.
    pub answer_timeout: Duration,
    /// How long running requests may go on after a shutdown begins.
    pub drain_timeout: Duration,
    /// Which origins browsers may call from.
    pub cors: Cors,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            body_bytes_max: 8 << 20,
            json_depth_max: 64,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            connections_max: 20_000,
            in_flight_max: 16_384,
            key_in_flight_max: 16_384,
            key_requests_per_second: 0,
            key_burst: 64,
            choices_max: 8,
            embedding_inputs_max: 2048,
            default_max_tokens: 2048,
            keep_alive: Duration::from_secs(15),
            first_event_wait: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(120),
            answer_timeout: Duration::from_secs(600),
            drain_timeout: Duration::from_secs(30),
            cors: Cors::Off,
        }
    }
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gateway setting {setting}: {problem}")]
pub struct InvalidConfig {
    /// The field of [`GatewayConfig`].
    pub setting: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl GatewayConfig {
    /// Checks that the settings can work together.
    ///
    /// # Errors
    /// Names the first setting that cannot.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let counts = [
            ("body_bytes_max", self.body_bytes_max),
            ("json_depth_max", self.json_depth_max),
            ("connections_max", self.connections_max),
            ("in_flight_max", self.in_flight_max),
            ("key_in_flight_max", self.key_in_flight_max),
            ("choices_max", self.choices_max),
            ("embedding_inputs_max", self.embedding_inputs_max),
        ];
        let durations = [
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
            ("write_timeout", self.write_timeout),
            ("keep_alive", self.keep_alive),
            ("stall_timeout", self.stall_timeout),
            ("answer_timeout", self.answer_timeout),
        ];
        let zero_count = counts.iter().find(|(_, value)| *value == 0).map(|(setting, _)| *setting);
        let zero_time = durations.iter().find(|(_, value)| value.is_zero()).map(|(setting, _)| *setting);
        if let Some(setting) = zero_count.or(zero_time) {
            return Err(InvalidConfig { setting, problem: "must be above zero".into() });
        }
        if let Cors::Origins(origins) = &self.cors
            && let Some(bad) = origins.iter().find(|origin| axum::http::HeaderValue::from_str(origin).is_err())
        {
            return Err(InvalidConfig { setting: "cors", problem: format!("{bad:?} is not an origin") });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut GatewayConfig), expect: Option<&str>) {
        let mut config = GatewayConfig::default();
        change(&mut config);
        assert_eq!(config.check().err().map(|error| error.setting), expect);
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        check(|_| (), None);
        check(|c| c.in_flight_max = 0, Some("in_flight_max"));
        check(|c| c.keep_alive = Duration::ZERO, Some("keep_alive"));
        check(|c| c.cors = Cors::Origins(vec!["bad\norigin".into()]), Some("cors"));
        check(|c| c.cors = Cors::Origins(vec!["https://app.example".into()]), None);
    }
}
