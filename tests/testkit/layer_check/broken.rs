//! Layers that are wrong, each in its own way: `Frames`, but for one method.

use super::right::Frames;
use std::time::Duration;
use tidegate::{Layer, LayerIo, Result};

/// A layer that does as `Frames` does, but for the methods that are given.
macro_rules! broken {
    ($(#[$doc:meta])* $name:ident; $($method:item)*) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(crate) struct $name(Frames, usize);

        impl Wrong for $name {
            fn frames(&mut self) -> &mut Frames {
                let Self(frames, _) = self;
                frames
            }

            fn count(&mut self) -> &mut usize {
                let Self(_, count) = self;
                count
            }

            $($method)*
        }

        impl Layer for $name {
            fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
                Wrong::start(self, io)
            }

            fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
                Wrong::receive(self, io)
            }

            fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
                Wrong::input_ended(self, io)
            }

            fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
                Wrong::send(self, data, io)
            }

            fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
                Wrong::end(self, io)
            }

            fn timer(&mut self, io: &mut LayerIo<'_>) -> Result {
                Wrong::timer(self, io)
            }
        }
    };
}

/// The methods of `Frames`.
trait Wrong {
    fn frames(&mut self) -> &mut Frames;

    fn count(&mut self) -> &mut usize;

    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.frames().start(io)
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.frames().receive(io)
    }

    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.frames().input_ended(io)
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        self.frames().send(data, io)
    }

    fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.frames().end(io)
    }

    fn timer(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.frames().timer(io)
    }
}

broken! {
    /// Forgets a length that comes without its frame.
    LosesAtCut;
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        if io.input().len() == 1 {
            io.consume(1);
        }
        self.frames().receive(io)
    }
}

broken! {
    /// Delivers what has come of a frame, and then the whole frame.
    DeliversTwice;
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.frames().receive(io)?;
        if let [_, _, part @ ..] = &*io.input() {
            let part = part.to_vec();
            io.deliver(&part);
        }
        Ok(())
    }
}

broken! {
    /// Says that it took everything.
    TakesTooMuch;
    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        self.frames().send(data, io)?;
        Ok(data.len())
    }
}

broken! {
    /// Takes the end of the TCP stream for that of its own.
    CutIsEnd;
    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        io.end_of_stream();
        Ok(())
    }
}

broken! {
    /// Sends no last frame.
    ForgetsEnd;
    fn end(&mut self, _: &mut LayerIo<'_>) -> Result {
        Ok(())
    }
}

broken! {
    /// Does not tell of the last frame.
    KeepsEnd;
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        while let Some(frame) = Frames::next(io) {
            io.deliver(&frame);
            self.frames().has_ended |= frame.is_empty();
        }
        Ok(())
    }
}

broken! {
    /// Asks for a call until the rest of a frame is there.
    AsksAgain;
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.frames().receive(io)?;
        if !io.input().is_empty() {
            io.more();
        }
        Ok(())
    }
}

broken! {
    /// Looks after the rest of a frame all the time.
    LooksAgain;
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.frames().receive(io)?;
        if !io.input().is_empty() {
            io.wake_after(Duration::ZERO);
        }
        Ok(())
    }

    fn timer(&mut self, io: &mut LayerIo<'_>) -> Result {
        Wrong::receive(self, io)
    }
}

broken! {
    /// Replies to each byte with a hundred.
    SaysTooMuch;
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let input = io.input().len();
        io.consume(input);
        io.send(&vec![0; 100 * input]);
        Ok(())
    }
}

broken! {
    /// Takes nothing, and waits for nothing.
    TakesNothing;
    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        *self.count() += 1;
        if *self.count() == 3 {
            return Ok(0);
        }
        self.frames().send(data, io)
    }
}

broken! {
    /// Never opens.
    StaysClosed;
    fn start(&mut self, _: &mut LayerIo<'_>) -> Result {
        Ok(())
    }
}

broken! {
    /// Panics when a frame is cut.
    Panics;
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        assert_ne!(io.input().len(), 1, "half a length");
        self.frames().receive(io)
    }
}

broken! {
    /// Fails when a frame is cut.
    Fails;
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        if io.input().len() == 1 {
            return Err("half a length".into());
        }
        self.frames().receive(io)
    }
}

broken! {
    /// Delivers no more than there is room for, and forgets the rest.
    LosesWithoutRoom;
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        while let Some(frame) = Frames::next(io) {
            let len = frame.len().min(io.room());
            io.deliver(&frame[..len]);
            if frame.is_empty() {
                self.frames().has_ended = true;
                io.end_of_stream();
            }
        }
        Ok(())
    }
}
