import subprocess
import sys


def test_listing_the_faces_imports_no_torch():
    code = (
        "import sys, lvmbench_faces as f; assert list(f.lvmbench_datasets()) == ['faces'];"
        "assert not {'torch', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
