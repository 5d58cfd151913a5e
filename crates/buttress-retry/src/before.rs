//! What a call failed with before the wait or the attempt under way, so that it is not lost if that comes to nothing.

use buttress_core::{Classify, FromRejection, Rejection, described};

/// The outcome of the last attempt that reached the service, or of the last one if none did.
pub(crate) struct Before<T, E> {
    kept: Kept<T, E>,
    /// It may have reached the service.
    sent: bool,
}

enum Kept<T, E> {
    Error(E),
    /// An answer that holds no connection.
    Answer(T),
    /// What is said of any other.
    Said(String),
}

/// Whether an attempt that ended so may have reached the service.
pub(crate) fn was_sent<T, E: FromRejection>(outcome: &Result<T, E>) -> bool {
    let rejection = outcome.as_ref().err().and_then(FromRejection::rejection);
    rejection.is_none_or(Rejection::was_sent)
}

impl<T, E: FromRejection> Before<T, E> {
    pub(crate) fn was_sent(&self) -> bool {
        self.sent
    }

    /// Keeps what an attempt failed with, while another one follows.
    pub(crate) fn keep<C>(before: &mut Option<Self>, outcome: Result<T, E>, classify: &C)
    where
        C: Classify<T, E>,
    {
        let sent = was_sent(&outcome);
        if !sent && before.as_ref().is_some_and(|before| before.sent) {
            // A refusal says nothing about the service: what that said last is what counts.
            return;
        }
        let kept = match outcome {
            Err(error) => Kept::Error(error),
            Ok(answer) if classify.keeps(&answer) => Kept::Answer(answer),
            Ok(answer) => Kept::Said(described(classify, Ok(&answer))),
        };
        *before = Some(Self { kept, sent });
    }

    /// What the classifier says of it.
    pub(crate) fn described<C>(&self, classify: &C) -> String
    where
        C: Classify<T, E>,
    {
        match &self.kept {
            Kept::Error(error) => described(classify, Err(error)),
            Kept::Answer(answer) => described(classify, Ok(answer)),
            Kept::Said(text) => text.clone(),
        }
    }

    /// What the caller gets if the attempt after this was refused unsent: `error` is all that there is of the refusal.
    pub(crate) fn refused(self, error: E, refusal: Rejection) -> Result<T, E> {
        // The call was sent, if not by this attempt.
        let refusal = refusal.with_sent(true);
        match self.kept {
            Kept::Error(failure) => Err(failure.ended_by(refusal)),
            Kept::Answer(answer) => Ok(answer),
            Kept::Said(text) => Err(match E::from_text(text) {
                Some(failure) => failure.ended_by(refusal),
                None => error.sent_before(),
            }),
        }
    }

    /// What the caller gets if a time limit ended the call after this.
    pub(crate) fn timed_out(self, limit: Rejection) -> Result<T, E> {
        match self.kept {
            // Nothing was sent, and the refusal knows better when to come back.
            Kept::Error(refused) if !self.sent => Err(refused),
            Kept::Error(failure) => Err(failure.ended_by(limit)),
            Kept::Answer(answer) => Ok(answer),
            Kept::Said(text) => Err(match E::from_text(text) {
                Some(failure) => failure.ended_by(limit),
                None => E::from_rejection(limit),
            }),
        }
    }
}
