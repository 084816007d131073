//! Refusals that end only when something else changes: what each is called, and who has to do what.

use super::Tier2Reason;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The session token is too old. The credentials are files that something renews, and they are read again with the next request.
    CredentialsExpired,
    /// There are none, or the store does not know them.
    Credentials,
    /// A signature is as old as the clock says.
    ClockSkew,
    /// The object lies in a storage class that has to be restored before it can be read.
    Archived,
    QuotaExceeded,
    /// Encryption at rest.
    EncryptionKey,
    /// Perhaps because of the header that carries the checksum.
    Checksum,
    Region,
    /// A reason that this engine does not know.
    Other,
}

impl Refusal {
    pub const ALL: [Refusal; 9] = [
        Refusal::CredentialsExpired,
        Refusal::Credentials,
        Refusal::ClockSkew,
        Refusal::Archived,
        Refusal::QuotaExceeded,
        Refusal::EncryptionKey,
        Refusal::Checksum,
        Refusal::Region,
        Refusal::Other,
    ];

    pub fn reason(self) -> Tier2Reason {
        match self {
            Refusal::CredentialsExpired => Tier2Reason::CredentialsExpired,
            Refusal::Credentials => Tier2Reason::AccessDenied,
            Refusal::ClockSkew => Tier2Reason::ClockSkew,
            Refusal::Archived => Tier2Reason::ObjectArchived,
            Refusal::QuotaExceeded => Tier2Reason::QuotaExceeded,
            Refusal::EncryptionKey => Tier2Reason::EncryptionKey,
            Refusal::Checksum => Tier2Reason::ChecksumRejected,
            Refusal::Region => Tier2Reason::WrongRegion,
            Refusal::Other => Tier2Reason::Refused,
        }
    }

    pub(super) fn what(self) -> &'static str {
        match self {
            Refusal::CredentialsExpired => "the credentials have expired",
            Refusal::Credentials => "the credentials are rejected",
            Refusal::ClockSkew => "the clocks of this node and of the object store differ too much",
            Refusal::Archived => "the object is archived",
            Refusal::QuotaExceeded => "the bucket is full",
            Refusal::EncryptionKey => "the encryption key of the bucket cannot be used",
            Refusal::Checksum | Refusal::Other => "the object store rejects the request",
            Refusal::Region => "the bucket is in another region or at another endpoint",
        }
    }

    pub(super) fn remedy(self) -> &'static str {
        match self {
            Refusal::CredentialsExpired => {
                "renew them in the credentials Secret, the engine reads it again"
            }
            Refusal::Credentials => "correct the credentials Secret",
            Refusal::ClockSkew => "correct the clock of the node",
            Refusal::Archived => {
                "restore the object, and take the prefix out of the rule that archives it"
            }
            Refusal::QuotaExceeded => "raise the quota of the bucket or free space there",
            Refusal::EncryptionKey => {
                "enable the key, or let the credentials use it to encrypt and decrypt"
            }
            Refusal::Checksum => {
                "if the store does not know this header, set tier2.checksum to MD5 or None"
            }
            Refusal::Region => "correct spec.tier2.region or spec.tier2.endpoint",
            Refusal::Other => "look up this answer in the documentation of the object store",
        }
    }

    pub(super) fn concerns_every_request(self) -> bool {
        match self {
            Refusal::CredentialsExpired
            | Refusal::Credentials
            | Refusal::ClockSkew
            | Refusal::Region => true,
            Refusal::Archived
            | Refusal::QuotaExceeded
            | Refusal::EncryptionKey
            | Refusal::Checksum
            | Refusal::Other => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_refusal_has_a_remedy_of_its_own_and_only_credentials_share_a_reason() {
        let remedies: BTreeSet<_> = Refusal::ALL.map(Refusal::remedy).into();
        assert_eq!(remedies.len(), Refusal::ALL.len());
        let reasons: BTreeSet<_> = Refusal::ALL.map(|it| it.reason().as_str()).into();
        assert_eq!(reasons.len(), Refusal::ALL.len());
        for refusal in Refusal::ALL {
            let denied = refusal.reason() == Tier2Reason::AccessDenied;
            assert_eq!(denied, refusal == Refusal::Credentials);
        }
    }
}
