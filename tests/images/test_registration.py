import subprocess
import sys


def test_listing_the_readers_imports_neither_torch_nor_pillow():
    code = (
        "import sys, lvmbench_images as i; assert {'fairface', 'mnist'} <= set(i.lvmbench_datasets());"
        "assert not {'torch', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
