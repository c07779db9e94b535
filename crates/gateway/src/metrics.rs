//! Counters and histograms of the HTTP API, and their text form for Prometheus (exposition format 0.0.4).
//!
//! Everything is a fixed array of atomics, so that counting costs a few nanoseconds and no lock on the hot path.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

/// A route, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    ChatCompletions,
    Completions,
    Embeddings,
    Responses,
    Messages,
    CountTokens,
    Models,
    Native,
    Operations,
    Other,
}

const ROUTES: [(Route, &str); 10] = [
    (Route::ChatCompletions, "/v1/chat/completions"),
    (Route::Completions, "/v1/completions"),
    (Route::Embeddings, "/v1/embeddings"),
    (Route::Responses, "/v1/responses"),
    (Route::Messages, "/v1/messages"),
    (Route::CountTokens, "/v1/messages/count_tokens"),
    (Route::Models, "/v1/models"),
    (Route::Native, "native"),
    (Route::Operations, "operations"),
    (Route::Other, "other"),
];

/// Statuses that the gateway gives; 499 stands for a client that left before the answer's head. 0 collects all others.
const STATUSES: [u16; 16] = [200, 400, 401, 402, 403, 404, 405, 408, 413, 415, 429, 499, 500, 503, 504, 0];

/// Upper bounds in milliseconds.
const BUCKETS_MS: [u64; 14] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 60_000, 600_000];

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS_MS.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Histogram {
    fn observe(&self, value: Duration) {
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = BUCKETS_MS.iter().position(|bound| micros <= bound * 1000) {
            self.buckets[bucket].fetch_add(1, Relaxed);
        }
        self.sum_us.fetch_add(micros, Relaxed);
        self.count.fetch_add(1, Relaxed);
    }

    fn write(&self, text: &mut String, name: &str, route: &str) {
        let mut total = 0;
        for (bound, bucket) in BUCKETS_MS.iter().zip(&self.buckets) {
            total += bucket.load(Relaxed);
            let le = format_args!("{}.{:03}", bound / 1000, bound % 1000);
            line(text, format_args!("{name}_bucket{{route=\"{route}\",le=\"{le}\"}} {total}"));
        }
        let (count, sum) = (self.count.load(Relaxed), self.sum_us.load(Relaxed));
        line(text, format_args!("{name}_bucket{{route=\"{route}\",le=\"+Inf\"}} {}", count.max(total)));
        line(text, format_args!("{name}_sum{{route=\"{route}\"}} {}.{:06}", sum / 1_000_000, sum % 1_000_000));
        line(text, format_args!("{name}_count{{route=\"{route}\"}} {}", count.max(total)));
    }
}

#[derive(Debug, Default)]
struct PerRoute {
    statuses: [AtomicU64; STATUSES.len()],
    cancelled: AtomicU64,
    failed_streams: AtomicU64,
    first_token: Histogram,
    duration: Histogram,
}

/// All metrics of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    routes: [PerRoute; ROUTES.len()],
    pub(crate) in_flight: AtomicUsize,
    pub(crate) connections: AtomicUsize,
    input_tokens: AtomicU64,
    cached_input_tokens: AtomicU64,
    output_tokens: AtomicU64,
}

impl Metrics {
    fn route(&self, route: Route) -> &PerRoute {
        &self.routes[route as usize]
    }

    /// An answer's head was sent, or (499) the client left before it.
    pub(crate) fn answered(&self, route: Route, status: u16) {
        let at = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len() - 1);
        self.route(route).statuses[at].fetch_add(1, Relaxed);
    }

    /// A client left in the middle of a stream.
    pub(crate) fn cancelled(&self, route: Route) {
        self.route(route).cancelled.fetch_add(1, Relaxed);
    }

    /// A stream ended with an error.
    pub(crate) fn failed_stream(&self, route: Route) {
        self.route(route).failed_streams.fetch_add(1, Relaxed);
    }

    /// The first token of a generation arrived this long after its request.
    pub(crate) fn first_token(&self, route: Route, after: Duration) {
        self.route(route).first_token.observe(after);
    }

    /// A request that was let in ended this long after it came.
    pub(crate) fn ended(&self, route: Route, after: Duration) {
        self.route(route).duration.observe(after);
    }

    /// A generation used this much.
    pub(crate) fn used(&self, usage: cortensor_protocol::Usage) {
        self.input_tokens.fetch_add(usage.input_tokens.into(), Relaxed);
        self.cached_input_tokens.fetch_add(usage.cached_input_tokens.into(), Relaxed);
        self.output_tokens.fetch_add(usage.output_tokens.into(), Relaxed);
    }

    /// Writes everything in Prometheus' text form.
    pub(crate) fn write(&self, text: &mut String) {
        head(text, "cortensor_http_requests_total", "counter", "Requests by route and status (499: the client left).");
        for (route, name) in ROUTES {
            for (status, count) in STATUSES.iter().zip(&self.route(route).statuses) {
                let count = count.load(Relaxed);
                if count > 0 {
                    let labels = format_args!("route=\"{name}\",status=\"{status}\"");
                    line(text, format_args!("cortensor_http_requests_total{{{labels}}} {count}"));
                }
            }
        }
        self.write_streams(text);
        self.write_totals(text);
        self.write_histograms(text);
    }

    fn write_streams(&self, text: &mut String) {
        head(text, "cortensor_http_streams_cancelled_total", "counter", "Streams that the client left.");
        for (route, name) in ROUTES {
            let count = self.route(route).cancelled.load(Relaxed);
            line(text, format_args!("cortensor_http_streams_cancelled_total{{route=\"{name}\"}} {count}"));
        }
        head(text, "cortensor_http_streams_failed_total", "counter", "Streams that ended with an error.");
        for (route, name) in ROUTES {
            let count = self.route(route).failed_streams.load(Relaxed);
            line(text, format_args!("cortensor_http_streams_failed_total{{route=\"{name}\"}} {count}"));
        }
    }

    fn write_totals(&self, text: &mut String) {
        head(text, "cortensor_http_in_flight", "gauge", "Requests being served, streams included.");
        line(text, format_args!("cortensor_http_in_flight {}", self.in_flight.load(Relaxed)));
        head(text, "cortensor_http_connections", "gauge", "Open connections.");
        line(text, format_args!("cortensor_http_connections {}", self.connections.load(Relaxed)));
        head(text, "cortensor_http_tokens_total", "counter", "LLM tokens of finished generations.");
        let kinds = [
            ("input", &self.input_tokens),
            ("cached_input", &self.cached_input_tokens),
            ("output", &self.output_tokens),
        ];
        for (kind, count) in kinds {
            line(text, format_args!("cortensor_http_tokens_total{{kind=\"{kind}\"}} {}", count.load(Relaxed)));
        }
    }

    fn write_histograms(&self, text: &mut String) {
        let used = |histogram: &Histogram| histogram.count.load(Relaxed) > 0;
        let name = "cortensor_http_time_to_first_token_seconds";
        head(text, name, "histogram", "Time from a request to its first token.");
        for (route, label) in ROUTES.iter().filter(|(route, _)| used(&self.route(*route).first_token)) {
            self.route(*route).first_token.write(text, name, label);
        }
        let name = "cortensor_http_request_duration_seconds";
        head(text, name, "histogram", "Time from a request to the end of its answer.");
        for (route, label) in ROUTES.iter().filter(|(route, _)| used(&self.route(*route).duration)) {
            self.route(*route).duration.write(text, name, label);
        }
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    line(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_in_the_order_of_their_discriminants() {
        assert!(ROUTES.iter().enumerate().all(|(at, (route, _))| *route as usize == at));
    }

    #[test]
    fn counts_show_in_the_text() {
        let metrics = Metrics::default();
        metrics.answered(Route::Embeddings, 200);
        metrics.answered(Route::Embeddings, 418);
        metrics.ended(Route::Embeddings, Duration::from_millis(7));
        metrics.used(cortensor_protocol::Usage { input_tokens: 3, cached_input_tokens: 1, output_tokens: 2 });
        let mut text = String::new();
        metrics.write(&mut text);
        for expect in [
            "cortensor_http_requests_total{route=\"/v1/embeddings\",status=\"200\"} 1\n",
            "cortensor_http_requests_total{route=\"/v1/embeddings\",status=\"0\"} 1\n",
            "cortensor_http_request_duration_seconds_bucket{route=\"/v1/embeddings\",le=\"0.005\"} 0\n",
            "cortensor_http_request_duration_seconds_bucket{route=\"/v1/embeddings\",le=\"0.010\"} 1\n",
            "cortensor_http_request_duration_seconds_sum{route=\"/v1/embeddings\"} 0.007000\n",
            "cortensor_http_tokens_total{kind=\"output\"} 2\n",
        ] {
            assert!(text.contains(expect), "{expect} is not in\n{text}");
        }
    }
}
