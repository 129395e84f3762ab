//! Upload sessions of a remote registry. [distribution-spec, Pushing blobs]

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};
use oci::{Digest, Error, RepositoryName, media_type};
use outbound::{Response, redacted};
use url::Url;

use crate::ask::{Access, Call, Remote};
use crate::budget::Cost;
use crate::outcome::{Refusal, Wanted, What};
use crate::payload::Payload;
use crate::wire::{Method, Reply};

const SMALLEST_CHUNK: &str = "oci-chunk-min-length";

/// An open upload.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Where the next request goes; each answer may name another place.
    pub(crate) url: Url,
    /// Bytes that the registry has.
    pub(crate) offset: u64,
    /// The smallest chunk that it takes, but for the last.
    pub(crate) smallest: Option<u64>,
}

/// Why a step of an upload did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It may succeed when it is tried again.
    Passing(Error),
    /// The session is not there any more.
    Lost(Error),
    /// The body is too large for this registry, or for something before it.
    TooLarge(Error),
    /// It will never succeed.
    Final(Error),
}

impl Failure {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Passing(error) | Self::Lost(error) | Self::TooLarge(error) | Self::Final(error) => error,
        }
    }
}

/// The answer to a request for a mount.
pub(crate) enum Mounted {
    Yes,
    /// A session for the push instead.
    No(Session),
}

impl Remote {
    /// Opens a session.
    pub(crate) async fn open_session(&self, name: &RepositoryName) -> Result<Session, Failure> {
        let url = self.url(name, "blobs/uploads/");
        let reply = self.change(Call::new(Method::Post, &url, name, Access::Push, Cost::Other)).await?;
        match reply.response.status {
            StatusCode::ACCEPTED => self.session(&url, &reply.response).map_err(Failure::Final),
            _ => Err(self.step_failed(reply, name).await),
        }
    }

    /// Asks for a mount.
    pub(crate) async fn ask_for_mount(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
    ) -> Result<Mounted, Failure> {
        let mut url = self.url(name, "blobs/uploads/");
        url.query_pairs_mut().append_pair("mount", &digest.to_string());
        if let Some(from) = from {
            url.query_pairs_mut().append_pair("from", from.as_str());
        }
        let access = from.map_or(Access::Push, Access::Mount);
        let reply = self.change(Call::new(Method::Post, &url, name, access, Cost::Other)).await?;
        match reply.response.status {
            StatusCode::CREATED => Ok(Mounted::Yes),
            StatusCode::ACCEPTED => self.session(&url, &reply.response).map(Mounted::No).map_err(Failure::Final),
            _ => Err(self.step_failed(reply, name).await),
        }
    }

    /// Appends the next bytes, `length` of them where that is known. Afterwards the session's offset is where the registry says that
    /// its copy ends, or `None` if it does not say.
    pub(crate) async fn append(
        &self,
        name: &RepositoryName,
        session: &mut Session,
        length: Option<u64>,
        payload: Payload,
    ) -> Result<Option<u64>, Failure> {
        let mut headers = octets();
        if let Some(length) = length {
            let range = format!("{}-{}", session.offset, (session.offset + length).saturating_sub(1));
            let range = HeaderValue::try_from(range);
            let range = range.map_err(|cause| Failure::Final(Error::internal("writing a Content-Range header", cause)))?;
            headers.insert(CONTENT_RANGE, range);
            headers.insert(CONTENT_LENGTH, length.into());
        }
        let url = session.url.clone();
        let call = Call::new(Method::Patch, &url, name, Access::Push, Cost::Other);
        let reply = self.change(call.with_headers(headers).with_payload(payload)).await?;
        match reply.response.status {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::CREATED | StatusCode::OK => {
                self.follow(session, &reply.response).map_err(Failure::Final)?;
                Ok(received(&reply.response))
            }
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
                self.follow(session, &reply.response).map_err(Failure::Final)?;
                Err(Failure::Passing(self.failed("the upload was sent elsewhere")))
            }
            _ => Err(self.step_failed(reply, name).await),
        }
    }

    /// Asks how far the session has come, and sets its offset to that.
    pub(crate) async fn find_offset(&self, name: &RepositoryName, session: &mut Session) -> Result<(), Failure> {
        let url = session.url.clone();
        let reply = self.change(Call::new(Method::Get, &url, name, Access::Push, Cost::Other)).await?;
        match reply.response.status {
            StatusCode::NO_CONTENT | StatusCode::OK | StatusCode::ACCEPTED => {
                self.follow(session, &reply.response).map_err(Failure::Final)?;
                match received(&reply.response) {
                    // Most say `0-0` of nothing; of one byte it is as well sent again, in another session.
                    Some(0 | 1) => session.offset = 0,
                    Some(offset) => session.offset = offset,
                    None => return Err(Failure::Lost(self.failed("an upload session does not say how far it has come"))),
                }
                Ok(())
            }
            // Some cannot go on with a session that broke off, and say so in many ways.
            status if status.is_client_error() && !is_passing(status) => {
                Err(Failure::Lost(self.unexpected(reply, &Wanted::push(name, What::Repository)).await))
            }
            _ => Err(self.step_failed(reply, name).await),
        }
    }

    /// Closes the session: what was appended, and `payload` after it, is the blob.
    pub(crate) async fn close_session(
        &self,
        name: &RepositoryName,
        session: &Session,
        digest: &Digest,
        payload: Payload,
    ) -> Result<(), Failure> {
        let mut url = session.url.clone();
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let call = Call::new(Method::Put, &url, name, Access::Push, Cost::Other);
        let reply = self.change(call.with_headers(octets()).with_payload(payload)).await?;
        match reply.response.status {
            StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(()),
            _ => Err(self.step_failed(reply, name).await),
        }
    }

    /// Gives a session up, so that the registry need not keep what it has. It does so by itself some day: failures do not matter.
    pub(crate) async fn drop_session(&self, name: &RepositoryName, session: &Session) {
        let answer = self.change(Call::new(Method::Delete, &session.url, name, Access::Push, Cost::Other)).await;
        if let Err(failure) = answer {
            let error = failure.into_error().to_string();
            tracing::debug!(upstream = self.host(), repository = name.as_str(), error, "an upload could not be given up");
        }
    }

    /// Sends one request of a push.
    async fn change(&self, call: Call<'_>) -> Result<Reply, Failure> {
        let wanted = Wanted::push(call.name, What::Repository);
        self.ask(call).await.map_err(|refusal| match refusal {
            Refusal::Failed(_) | Refusal::TooMany { .. } => Failure::Passing(self.refused(refusal, &wanted)),
            Refusal::Denied | Refusal::Reserved { .. } => Failure::Final(self.refused(refusal, &wanted)),
        })
    }

    /// What an answer means that is not the one that was hoped for.
    async fn step_failed(&self, reply: Reply, name: &RepositoryName) -> Failure {
        let (status, renewed) = (reply.response.status, reply.renewed);
        let error = self.unexpected(reply, &Wanted::push(name, What::Repository)).await;
        match status {
            status if is_passing(status) => Failure::Passing(error),
            StatusCode::UNAUTHORIZED if renewed => Failure::Passing(error),
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::RANGE_NOT_SATISFIABLE => Failure::Lost(error),
            StatusCode::PAYLOAD_TOO_LARGE => Failure::TooLarge(error),
            _ => Failure::Final(error),
        }
    }

    fn session(&self, asked: &Url, response: &Response) -> Result<Session, Error> {
        let url = self.location(asked, response)?;
        let url = url.ok_or_else(|| self.failed("an upload was begun without a Location to send it to"))?;
        let smallest = response.header(SMALLEST_CHUNK).and_then(|text| text.trim().parse().ok());
        Ok(Session { url, offset: 0, smallest })
    }

    /// The place for the next request, if the answer names another.
    fn follow(&self, session: &mut Session, response: &Response) -> Result<(), Error> {
        if let Some(url) = self.location(&session.url, response)? {
            session.url = url;
        }
        Ok(())
    }

    /// Where the answer to `asked` sends us, if it does.
    fn location(&self, asked: &Url, response: &Response) -> Result<Option<Url>, Error> {
        let Some(location) = response.headers.get(LOCATION) else { return Ok(None) };
        let target = location.to_str().ok().filter(|text| !text.is_empty()).and_then(|text| asked.join(text).ok());
        let Some(mut target) = target else {
            return Err(self.failed("an upload was answered with a Location that is no address"));
        };
        // A registry behind a proxy that speaks TLS for it often does not know of that, and the way to the same host is known.
        if (asked.scheme(), target.scheme()) == ("https", "http") && asked.host() == target.host() {
            let port = target.port();
            let is_set = target.set_scheme("https").is_ok() && target.set_port(port.or(asked.port())).is_ok();
            tracing::debug!(upstream = self.host(), location = redacted(&target), is_set, "an upload stays on https");
        }
        match self.check_reach(&target) {
            Err(Refusal::Failed(reason)) => Err(self.failed(format!("an upload was sent to a place that may not be: {reason}"))),
            _ => Ok(Some(target)),
        }
    }
}

/// Worth another attempt. [RFC 9110, 15.5.9 and 15.6]
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY)
}

fn octets() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type::OCTET_STREAM))])
}

/// How many bytes a session has, from `Range: 0-99`; some say it with a unit.
fn received(response: &Response) -> Option<u64> {
    parse_range(response.header(RANGE)?)
}

fn parse_range(text: &str) -> Option<u64> {
    let text = text.trim();
    let (first, last) = text.strip_prefix("bytes=").or_else(|| text.strip_prefix("bytes ")).unwrap_or(text).split_once('-')?;
    (first.trim() == "0").then_some(())?;
    last.trim().parse::<u64>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_sessions() {
        assert_eq!(parse_range("0-99"), Some(100));
        assert_eq!(parse_range(" bytes=0-0 "), Some(1));
        for text in ["", "0", "-", "1-99", "0-", "0-x", "bytes=-5", "0-18446744073709551615"] {
            assert_eq!(parse_range(text), None, "{text:?}");
        }
    }
}
