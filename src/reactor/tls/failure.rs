//! Whether a handshake that has failed may succeed another time.

use rustls::{AlertDescription, CertificateError, Error};

/// Whether what has failed is likely to pass without anybody changing their mind.
///
/// - A certificate that has expired, or is not valid yet: it is about to be renewed, or a clock to
///   be set.
/// - An alert that tells of trouble at the server's (RFC 8446 §6.2: `internal_error`,
///   `user_canceled`), and records that were damaged on the way, whoever has noticed.
/// - No time or no randomness to be had of our system.
///
/// All else is a decision, about whom to trust or what to speak, or somebody breaks the protocol.
pub(in crate::reactor) fn is_passing(failure: &(dyn std::error::Error + 'static)) -> bool {
    let Some(error) = failure.downcast_ref::<Error>() else { return false };
    match error {
        Error::InvalidCertificate(error) => matches!(
            error,
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        ),
        Error::AlertReceived(alert) => matches!(
            alert,
            AlertDescription::InternalError
                | AlertDescription::UserCanceled
                | AlertDescription::BadRecordMac
        ),
        Error::DecryptError | Error::FailedToGetCurrentTime | Error::FailedToGetRandomBytes => true,
        // What rustls will know one day is final until it is looked at here.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{InvalidMessage, OtherError, PeerIncompatible, PeerMisbehaved};

    use super::*;

    #[test]
    fn every_error_of_tls_is_judged() {
        let time = UnixTime::since_unix_epoch(Duration::ZERO);
        let of_certificate = [
            (CertificateError::Expired, true),
            (CertificateError::ExpiredContext { time, not_after: time }, true),
            (CertificateError::NotValidYet, true),
            (CertificateError::NotValidYetContext { time, not_before: time }, true),
            (CertificateError::BadEncoding, false),
            (CertificateError::Revoked, false),
            (CertificateError::UnhandledCriticalExtension, false),
            (CertificateError::UnknownIssuer, false),
            (CertificateError::UnknownRevocationStatus, false),
            // Who looks at a list has it in its settings, where nobody renews it.
            (CertificateError::ExpiredRevocationList, false),
            (CertificateError::BadSignature, false),
            (CertificateError::NotValidForName, false),
            (
                CertificateError::NotValidForNameContext {
                    expected: ServerName::try_from("example.com").unwrap(),
                    presented: Vec::new(),
                },
                false,
            ),
            (CertificateError::InvalidPurpose, false),
            (CertificateError::InvalidOcspResponse, false),
            (CertificateError::ApplicationVerificationFailure, false),
        ];
        let of_certificate =
            of_certificate.map(|(error, expected)| (Error::InvalidCertificate(error), expected));
        let others = [
            (Error::DecryptError, true),
            (Error::FailedToGetCurrentTime, true),
            (Error::FailedToGetRandomBytes, true),
            (Error::NoCertificatesPresented, false),
            (Error::UnsupportedNameType, false),
            (Error::EncryptError, false),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), false),
            (Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), false),
            (Error::PeerMisbehaved(PeerMisbehaved::InvalidCertCompression), false),
            (Error::General("out of order".to_owned()), false),
            (Error::HandshakeNotComplete, false),
            (Error::PeerSentOversizedRecord, false),
            (Error::NoApplicationProtocol, false),
            (Error::BadMaxFragmentSize, false),
            (Error::Other(OtherError(std::sync::Arc::new(io::Error::other("?")))), false),
        ];
        for (error, expected) in of_certificate.into_iter().chain(others) {
            assert_eq!(is_passing(&error), expected, "{error:?}");
        }
    }

    #[test]
    fn every_alert_of_the_server_is_judged() {
        for number in 0..=u8::MAX {
            // RFC 8446 §6: internal_error, user_canceled, bad_record_mac.
            let expected = [80, 90, 20].contains(&number);
            let error = Error::AlertReceived(AlertDescription::from(number));
            assert_eq!(is_passing(&error), expected, "{error:?}");
        }
    }

    #[test]
    fn what_is_no_error_of_tls_is_final() {
        let words: Box<dyn std::error::Error + Send + Sync> = "there are no settings for it".into();
        assert!(!is_passing(&*words));
        assert!(!is_passing(&io::Error::from(io::ErrorKind::InvalidInput)));
    }
}
