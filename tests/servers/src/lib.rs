//! Servers of their own for the tests: RabbitMQ, Redis, a relay that breaks connections, a certificate authority.
