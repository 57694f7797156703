"""A GPU that is not there, in every Python that has this folder in PYTHONPATH: torch says it sees one."""

import torch

PROPERTIES = {
    "name": "NVIDIA H200",
    "major": 9,
    "minor": 0,
    "multi_processor_count": 132,
    "L2_cache_size": 4096,  # so small that two input sets exceed it
    "total_memory": 2**30,
    "uuid": "none",
}
torch.version.cuda = "13.0"
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: 1
torch.cuda.current_device = lambda: 0
torch.cuda.get_device_name = lambda device=None: PROPERTIES["name"]
torch.cuda.get_device_capability = lambda device=None: (9, 0)
torch.cuda.get_device_properties = lambda device=None: type("Properties", (), PROPERTIES)()
