"""Each folder of the real data is recognised as what it is, whatever formats there are beside it."""

from pathlib import Path

import pytest

from sightline.data import detect_format

pytestmark = pytest.mark.real_data

FOLDERS = {
    "coco128_lightly/derived_coco_instances": "coco",
    "coco128_lightly/instance_segmentation": "yolo",
    "coco128_lightly/object_detection": "yolo",
    "coco_nuts": None,
    "coco_nuts/data": "coco",
    "det_aerial_cars": "yolo",
    "det_bccd/BCCD": "voc",
    "det_bccd/BCCD/JPEGImages": None,
    "fixtures/coco_fake100": "coco",
    "format_samples": None,
    "format_samples/coco6_instances": "coco",
    "format_samples/labelme": None,
    "format_samples/labelme/bbox_detection": "labelme",
    "format_samples/labelme/instance_segmentation": "labelme",
    "format_samples/labelme/instance_segmentation/data_annotated": "labelme",
    "format_samples/labelme/semantic_segmentation": "labelme",
    "format_samples/labelme/video_annotation": "labelme",
    "format_samples/pennfudan5/PennFudanPed": "masks",
    "format_samples/pets5": "voc",
    "inst_dsb2018/stage1_train": "instance-files",
    "seg_camvid/CamVid": "masks",
    "seg_chasedb1/CHASEDB1": "masks",
    "seg_crackforest": "masks",
    "track_mot15": "mot",
    "track_pets09_s2l1_video": "mot",
    "video_clips": None,
    "vos_chair": "masks",
}


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder(data_root: Path, folder: str) -> None:
    assert detect_format(data_root / folder) == FOLDERS[folder]
