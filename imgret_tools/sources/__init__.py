"""Where pictures come from: one idea of a `Source`, which lists entries with a change mark and hands out their bytes.

address              what it names                                                        module
PATH                 a folder of this machine                                             folder
s3:// gs:// hf:// …  what fsspec opens: all pictures below it                             remote
LIST                 .csv, .parquet, .txt with an address a line (column url)             addresses
SHARD.tar            WebDataset: pictures with .txt, .json and .cls beside them           shards
webdataset:FOLDER    all .tar in a folder, here or afar
datasets:NAME        a Hugging Face `datasets` folder or name with a column of pictures   rows
"""
