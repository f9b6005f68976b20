//! Where a server listens, with all that holds there.

use std::io;

use crate::reactor::{Endpoint, ListenOptions, ListenerSettings, Net, ReactorBuilder};

/// A place to listen at with everything that holds there.
pub struct Described {
    pub endpoint: Endpoint,
    pub options: ListenOptions,
    pub settings: ListenerSettings,
}

impl Described {
    pub fn listen<N: Net>(&self, reactor: &mut ReactorBuilder<N>) -> io::Result<Endpoint> {
        reactor.listen(self.endpoint.clone(), &self.options, self.settings.clone())
    }

    /// Listens for the first of several loops, so that the others can listen there too.
    pub fn listen_first<N: Net>(
        &mut self,
        reactor: &mut ReactorBuilder<N>,
    ) -> io::Result<Endpoint> {
        // Where nothing can be bound twice the loops share one socket.
        self.endpoint = self.endpoint.bind(&self.options)?;
        if let Endpoint::Tcp(address) = self.endpoint {
            // With SO_REUSEPORT two servers on one port are no error, they share its connections;
            // so whether somebody is there already is asked without it.
            reactor.probe(address, &self.options)?;
            self.options.reuse_port = true;
        }
        let endpoint = self.listen(reactor)?;
        if let Endpoint::Tcp(address) = &mut self.endpoint {
            // The first loop's port 0 becomes the port of all.
            *address = endpoint.socket_addr().unwrap_or(*address);
        }
        Ok(endpoint)
    }
}
