//! WAV files in memory: 16-bit PCM, mono or stereo, through `hound`.

use std::io::Cursor;

/// Longest sound taken from a file, in samples of all channels: ten minutes of 48 kHz stereo.
pub const SAMPLES_MAX: u32 = 10 * 60 * 48_000 * 2;

/// Why bytes are not a WAV file we can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The container is broken or not RIFF/WAVE.
    #[error("not a readable WAV file: {0}")]
    Container(String),
    /// Another sample format than 16-bit PCM.
    #[error("the WAV file has {0}; it must be 16-bit PCM, mono or stereo")]
    Format(String),
    /// More than [`SAMPLES_MAX`].
    #[error("the WAV file is longer than ten minutes")]
    TooLong,
}

/// A piece of sound.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wav {
    /// Sampling instants per second.
    pub rate: u32,
    /// One, or two with the samples interleaved.
    pub channels: u16,
    /// The samples.
    pub samples: Vec<i16>,
}

impl Wav {
    /// One channel of sound.
    pub fn mono(rate: u32, samples: Vec<i16>) -> Wav {
        Wav { rate, channels: 1, samples }
    }

    /// Two channels, as long as the longer one: what each side of a call heard, side by side.
    pub fn stereo(rate: u32, left: &[i16], right: &[i16]) -> Wav {
        let at = |side: &[i16], i: usize| side.get(i).copied().unwrap_or(0);
        let samples = (0..left.len().max(right.len())).flat_map(|i| [at(left, i), at(right, i)]).collect();
        Wav { rate, channels: 2, samples }
    }

    /// Reads a file.
    pub fn read(bytes: &[u8]) -> Result<Wav, Error> {
        let container = |e: hound::Error| Error::Container(e.to_string());
        let mut reader = hound::WavReader::new(Cursor::new(bytes)).map_err(container)?;
        let spec = reader.spec();
        if spec.bits_per_sample != 16 || spec.sample_format != hound::SampleFormat::Int {
            return Err(Error::Format(format!("{} bits per sample", spec.bits_per_sample)));
        }
        if !matches!(spec.channels, 1 | 2) || !(1_000..=384_000).contains(&spec.sample_rate) {
            let what = format!("{} channels at {} Hz", spec.channels, spec.sample_rate);
            return Err(Error::Format(what));
        }
        if reader.len() > SAMPLES_MAX {
            return Err(Error::TooLong);
        }
        let samples = reader.samples::<i16>().collect::<Result<_, _>>().map_err(container)?;
        Ok(Wav { rate: spec.sample_rate, channels: spec.channels, samples })
    }

    /// Writes a file.
    pub fn write(&self) -> Result<Vec<u8>, Error> {
        let container = |e: hound::Error| Error::Container(e.to_string());
        let mut bytes = Cursor::new(Vec::with_capacity(44 + self.samples.len() * 2));
        let spec = hound::WavSpec {
            channels: self.channels.max(1),
            sample_rate: self.rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::new(&mut bytes, spec).map_err(container)?;
        let mut fast = writer.get_i16_writer(self.samples.len() as u32);
        self.samples.iter().for_each(|s| fast.write_sample(*s));
        fast.flush().map_err(container)?;
        writer.finalize().map_err(container)?;
        Ok(bytes.into_inner())
    }

    /// The sound as one channel at another rate: channels averaged, then each new sample the mean
    /// of the old ones it covers, or a point on the line between two of them. Plain, and good enough
    /// for speech on a telephone.
    pub fn mono_at(&self, rate: u32) -> Vec<i16> {
        let channels = usize::from(self.channels.max(1));
        let mono: Vec<i32> = self
            .samples
            .chunks_exact(channels)
            .map(|frame| frame.iter().map(|s| i32::from(*s)).sum::<i32>() / channels as i32)
            .collect();
        if rate == self.rate || rate == 0 || self.rate == 0 {
            return mono.into_iter().map(|s| s as i16).collect();
        }
        let step = f64::from(self.rate) / f64::from(rate);
        let count = (mono.len() as f64 / step) as usize;
        let sample = |i: usize| {
            let at = i as f64 * step;
            let (from, to) = (at as usize, ((at + step) as usize).min(mono.len()));
            if to > from + 1 {
                mono[from..to].iter().sum::<i32>() / (to - from) as i32
            } else {
                let next = mono[(from + 1).min(mono.len() - 1)];
                mono[from] + ((next - mono[from]) as f64 * at.fract()) as i32
            }
        };
        (0..count).map(|i| sample(i) as i16).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tone::{Sine, heard};

    #[test]
    fn sound_survives_the_file() {
        let wav = Wav::stereo(8_000, &[1, -2, 3], &[i16::MIN]);
        assert_eq!(wav.samples, [1, i16::MIN, -2, 0, 3, 0]);
        let bytes = wav.write().unwrap();
        assert_eq!(&bytes[..4], b"RIFF");
        assert_eq!(bytes.len(), 44 + 12, "the plain 44-byte header that every player reads");
        assert_eq!(Wav::read(&bytes).unwrap(), wav);
    }

    #[test]
    fn what_is_not_a_wav_file_is_named() {
        assert!(matches!(Wav::read(b"OggS...."), Err(Error::Container(_))));
        let mut bytes = Wav::mono(8_000, vec![0; 4]).write().unwrap();
        bytes.truncate(47);
        assert!(matches!(Wav::read(&bytes), Err(Error::Container(_))));
    }

    #[test]
    fn a_tone_keeps_its_pitch_at_another_rate() {
        for rate in [16_000, 44_100, 48_000, 8_000, 6_000] {
            let tone: Vec<i16> = Sine::new(440.0, rate, 8_000.0).take(rate as usize).collect();
            let at_8k = Wav::stereo(rate, &tone, &tone).mono_at(8_000);
            let heard = heard(&at_8k, 8_000, 440.0);
            assert!(heard.seconds > 0.8 && heard.purity > 0.95, "{rate}: {heard:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            noise in prop::collection::vec(any::<u8>(), 0..60),
            at in 0usize..44, value: u8,
        ) {
            let _ = Wav::read(&noise);
            let mut bytes = Wav::mono(8_000, vec![5; 8]).write().unwrap();
            bytes[at] = value;
            if let Ok(wav) = Wav::read(&bytes) {
                let _ = wav.mono_at(8_000);
            }
        }
    }
}
