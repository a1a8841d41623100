//! Records by dynamic update (RFC 2136) over TCP, signed by a shared key (RFC 8945).
//!
//! The zone is the one whose SOA the server gives for the name; an answer to a signed update is believed only if it is
//! signed too.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use config::issuer::dns::{Rfc2136, TsigAlgorithm as Algorithm, TsigKey};
use hickory_proto::op::{Message, Query, ResponseCode, update_message};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, RData, Record, RecordSet, RecordType, TSigner};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::lookup::{Lookup, absolute};
use super::{Action, Credentials, DnsError, Placed, TTL, secret};

/// How long one exchange may take.
const EXCHANGE: Duration = Duration::from_secs(10);
/// How far the clocks of both sides may be apart, in seconds (RFC 8945 §10).
const FUDGE: u16 = 300;

/// Publishes or removes a record.
pub(super) async fn act(
    action: Action,
    record: &Placed,
    server: &Rfc2136,
    credentials: &Credentials,
    lookup: &Lookup,
) -> Result<(), DnsError> {
    let who = format!("the name server {}", server.host);
    let unreachable = |why: String| DnsError::Unreachable { who: who.clone(), why };
    let refused = |why: String| DnsError::Refused { who: who.clone(), why };
    let address = lookup.addresses(&server.host).await.into_iter().next();
    let address = address.ok_or_else(|| unreachable("it has no address".to_owned()))?;
    let address = SocketAddr::new(address, server.port);
    let owner = absolute(&record.owner).ok_or_else(|| refused(format!("{:?} is no name", record.owner)))?;
    let signer = server.key.as_ref().map(|key| signer(key, credentials)).transpose()?;
    let zone = zone(address, &owner).await.map_err(|error| unreachable(error.to_string()))?;
    let zone = zone.ok_or_else(|| DnsError::NoZone(record.owner.clone(), "at the name server"))?;
    let mut message = update(action, owner, zone, &record.value);
    let verifier = match &signer {
        None => None,
        Some(signer) => {
            let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
            message.finalize(signer, now).map_err(|error| refused(error.to_string()))?
        }
    };
    let answer = exchange(address, &message).await.map_err(|error| unreachable(error.to_string()))?;
    let read = Message::from_vec(&answer).map_err(|error| refused(error.to_string()))?;
    // What is refused for its signature is not signed.
    if read.response_code != ResponseCode::NoError {
        return Err(refused(format!("it answers {}", read.response_code)));
    }
    if let Some(mut verifier) = verifier {
        verifier
            .verify(&answer)
            .map_err(|error| refused(format!("its answer is not signed as it should be: {error}")))?;
    }
    Ok(())
}

fn update(action: Action, owner: Name, zone: Name, value: &str) -> Message {
    let text = RData::TXT(TXT::new(vec![value.to_owned()]));
    let record = RecordSet::from(Record::from_rdata(owner, TTL, text));
    match action {
        Action::Present => update_message::append(record, zone, false, false),
        Action::Remove => update_message::delete_by_rdata(record, zone, false),
    }
}

fn signer(key: &TsigKey, credentials: &Credentials) -> Result<TSigner, DnsError> {
    let text = secret(credentials, &key.secret)?;
    let bytes = STANDARD.decode(text).map_err(|_| {
        DnsError::Secret(format!(
            "the TSIG key in Secret {} is not base64, as name servers write it",
            key.secret.secret
        ))
    })?;
    let algorithm = match key.algorithm {
        Algorithm::Sha256 => TsigAlgorithm::HmacSha256,
        Algorithm::Sha384 => TsigAlgorithm::HmacSha384,
        Algorithm::Sha512 => TsigAlgorithm::HmacSha512,
    };
    let name = absolute(&key.name).ok_or_else(|| DnsError::Secret(format!("{:?} is no name of a key", key.name)))?;
    TSigner::new(bytes, algorithm, name, FUDGE).map_err(|error| DnsError::Secret(error.to_string()))
}

/// The zone that a name is in: of that name is the SOA which answers, or says that there is no answer.
async fn zone(server: SocketAddr, owner: &Name) -> io::Result<Option<Name>> {
    let mut message = Message::query();
    message.add_query(Query::query(owner.clone(), RecordType::SOA));
    let answer = exchange(server, &message).await?;
    let answer = Message::from_vec(&answer).map_err(io::Error::other)?;
    let all = answer.answers.iter().chain(&answer.authorities);
    let zone = all.filter(|record| record.record_type() == RecordType::SOA).map(|record| record.name.clone());
    Ok(zone.into_iter().find(|zone| zone.zone_of(owner)))
}

/// One message there, one back.
async fn exchange(server: SocketAddr, message: &Message) -> io::Result<Vec<u8>> {
    let bytes = message.to_vec().map_err(io::Error::other)?;
    let len = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let talk = async {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(&[&len.to_be_bytes()[..], &bytes].concat()).await?;
        let mut answer = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    timeout(EXCHANGE, talk).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
