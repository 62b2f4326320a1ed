"""MOTChallenge sequences."""

from sightline.data.formats.mot.sequence import mot_text, read_seqinfo, sequence_frames, write_mot_txt

__all__ = ["mot_text", "read_seqinfo", "sequence_frames", "write_mot_txt"]
