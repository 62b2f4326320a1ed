"""MOTChallenge sequences."""

from sightline.data.formats.mot.sequence import read_seqinfo, sequence_frames, write_mot_txt

__all__ = ["read_seqinfo", "sequence_frames", "write_mot_txt"]
