"""Sites as the server sees them: who takes part, what they are sent, which replies are admitted."""
