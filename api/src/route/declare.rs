// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From the rows of the table to everything that must agree with them.
//!
//! A row names the operation twice (variant and method), then method and template of the path, then what it takes and what it
//! answers. From it come a variant of `Command`, a method of `Handler` and of [`crate::client::Client`] with the same
//! parameters, the arm of `dispatch`, and an entry of `ROUTES`, by which requests are routed and documents are written.

/// Declares the operations of the API; see the module.
macro_rules! routes {
    ($(
        $(#[doc = $doc:literal])+
        $variant:ident = $method:ident: $verb:ident $path:literal
        $(($($part:ident: $part_type:ty),+))?
        $(query($query:ident: $query_type:ty))?
        $(body($body:ident: $body_type:ty))?
        -> $answer:ty;
    )+) => {
        /// One operation, with everything that was said in its request.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Command {$(
            $(#[doc = $doc])+
            $variant {
                $($(
                    #[doc = concat!("`", stringify!($part), "` of the path.")]
                    $part: $part_type,
                )+)?
                $(
                    /// The parameters after the question mark.
                    $query: $query_type,
                )?
                $(
                    /// The body of the request.
                    $body: $body_type,
                )?
            },
        )+}

        /// The supervisor. Calls are quick: they may take a lock, they do not wait for a program or a peer. What takes its
        /// time answers [`crate::answer::Later`] or [`crate::answer::Stream`].
        pub trait Handler: Send + Sync {$(
            $(#[doc = $doc])+
            ///
            /// # Errors
            /// A sentence for the user; nothing has changed then.
            fn $method(
                &self,
                caller: Caller,
                $($($part: $part_type,)+)?
                $($query: $query_type,)?
                $($body: $body_type,)?
            ) -> Result<$answer, ApiError>;
        )+}

        /// Has the handler do it.
        ///
        /// # Errors
        /// The handler's.
        pub fn dispatch<H: Handler + ?Sized>(
            handler: &H,
            caller: Caller,
            command: Command,
        ) -> Result<Reply, ApiError> {
            match command {$(
                Command::$variant { $($($part,)+)? $($query,)? $($body,)? } => handler
                    .$method(caller, $($($part,)+)? $($query,)? $($body,)?)
                    .map(Answer::into_reply),
            )+}
        }

        impl Command {
            /// Its entry in [`ROUTES`].
            #[must_use]
            pub fn route(&self) -> &'static Route {
                let name = match self {$(
                    Self::$variant { .. } => stringify!($method),
                )+};
                ROUTES
                    .iter()
                    .find(|route| route.name == name)
                    .expect("every variant has its entry: both come from one row")
            }

            /// The target and the body of a request that asks for it.
            ///
            /// # Errors
            /// When a value cannot be written as JSON.
            #[allow(unused_mut, unused_assignments)]
            pub fn request(&self) -> Result<(String, Option<Vec<u8>>), serde_json::Error> {
                match self {$(
                    Self::$variant { $($($part,)+)? $($query,)? $($body,)? } => {
                        let mut target = super::fill($path, &[$($(&$part.to_string(),)+)?]);
                        $(target.push_str(&super::query::write($query)?);)?
                        let mut content = None;
                        $(content = Some(serde_json::to_vec($body)?);)?
                        Ok((target, content))
                    }
                )+}
            }
        }

        impl crate::client::Client {$(
            $(#[doc = $doc])+
            ///
            /// # Errors
            /// See [`crate::client::ClientError`].
            pub fn $method(
                &self,
                $($($part: $part_type,)+)?
                $($query: $query_type,)?
                $($body: $body_type,)?
            ) -> Result<<$answer as Answer>::Received, crate::client::ClientError> {
                let command = Command::$variant { $($($part,)+)? $($query,)? $($body,)? };
                <$answer as Answer>::receive(self.send(&command)?)
            }
        )+}

        /// All operations, in the order of their rows.
        pub static ROUTES: &[Route] = &[$(
            Route {
                name: stringify!($method),
                method: super::Method::$verb,
                path: $path,
                documentation: concat!($($doc, "\n",)+),
                takes_body: !<[&str]>::is_empty(&[$(stringify!($body))?]),
                #[allow(unused_variables, unused_mut)]
                parse: |parts, query, body| {
                    let mut parts = parts.iter();
                    $($(let $part: $part_type = super::part(parts.next())?;)+)?
                    let rest = query;
                    $(
                        let $query: $query_type = super::query::read(rest)?;
                        let rest = "";
                    )?
                    super::query::read::<super::query::Nothing>(rest)?;
                    $(let $body: $body_type = super::json(body)?;)?
                    Ok(Command::$variant { $($($part,)+)? $($query,)? $($body,)? })
                },
                describe: |schemas| super::Description {
                    parts: vec![$($(
                        (stringify!($part), schemas.requests.subschema_for::<$part_type>()),
                    )+)?],
                    query: [
                        $(schemas.requests.root_schema_for::<$query_type>(),)?
                    ].into_iter().next(),
                    body: [
                        $(schemas.requests.subschema_for::<$body_type>(),)?
                    ].into_iter().next(),
                    answers: <$answer as Answer>::media(&mut schemas.answers),
                },
            },
        )+];
    };
}
pub(super) use routes;
