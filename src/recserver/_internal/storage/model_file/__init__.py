"""Reading and writing model files, ``models/{id}.pkl``. Nothing in a file is ever executed.

The file is one protocol-5 pickle of builtins::

    {"format": "recserver-model", "version": 1, "header": <JSON text>,
     "arrays": {<name>: (<JSON text of [dtype, shape]>, <padding>, <raw bytes>), ...},
     "sha256": <hex, of every byte before this digest>}

Writer and reader share one grammar of nine opcodes, none of which imports, calls or memoises. The reader
walks that grammar over the file's bytes instead of unpickling it, so a file with any other opcode is rejected.
"""

from recserver._internal.storage.model_file.format import JSON, MAX_FILE_BYTES, Array
from recserver._internal.storage.model_file.reader import Artifact, check_ends, load, parse
from recserver._internal.storage.model_file.writer import PackedFile, pack

__all__ = ["JSON", "MAX_FILE_BYTES", "Array", "Artifact", "PackedFile", "check_ends", "load", "pack", "parse"]
