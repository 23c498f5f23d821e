"""Build and install mixedae_mm.

No mm* package is ever a hard requirement: two distributions provide each of
those import names, and only the user knows which of them is installed. The
extras name them, for an empty environment; ``requirements/`` pins what is tested.
"""

import os
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PACKAGE = 'mixedae_mm'
# What OpenMMLab's tools look for in `.mim/` inside an installed package.
MIM_FILES = ('configs', 'tools', 'model-index.yml')


class BuildWithMimFiles(build_py):
    """Also put configs, tools and model index where OpenMMLab looks for them."""

    def run(self):
        super().run()
        # An editable install works on the sources, so it gets links to them.
        editable = getattr(self, 'editable_mode', False)
        mim = (ROOT if editable else Path(self.build_lib)) / PACKAGE / '.mim'
        shutil.rmtree(mim, ignore_errors=True)  # what an earlier build left
        mim.mkdir(parents=True)
        for name in MIM_FILES:
            source = ROOT / name
            if editable:
                (mim / name).symlink_to(os.path.relpath(source, mim))
            elif source.is_dir():
                shutil.copytree(source, mim / name, ignore=shutil.ignore_patterns(
                    '__pycache__', '*.py[co]'))
            else:
                shutil.copy2(source, mim / name)


def requirements(name):
    """Lines of ``requirements/<name>.txt``, with the files it includes."""
    lines = []
    for line in (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines():
        line = line.partition('#')[0].strip()
        if line.startswith('-r '):
            lines += requirements(line[3:].strip()[:-len('.txt')])
        elif line:
            lines.append(line)
    return lines


def version():
    """The version, read without importing the package and its dependencies."""
    namespace = {}
    exec((ROOT / PACKAGE / 'version.py').read_text(), namespace)
    return namespace['__version__']


def readme():
    path = ROOT / 'README.md'
    return path.read_text(encoding='utf-8') if path.exists() else ''


setup(
    name='mixedae-mm',
    version=version(),
    description='MixedAE (Mixed Autoencoder) self-supervised pre-training for '
                'mmpretrain, mmsegmentation and mmdetection',
    long_description=readme(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    keywords='computer vision, self-supervised learning, masked image modeling, '
             'vision transformer, OpenMMLab',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={PACKAGE: [f'**/*.{ending}' for ending in
                            ('c', 'cpp', 'cu', 'css', 'html', 'js', 'json')]},
    python_requires='>=3.10',
    install_requires=requirements('runtime'),
    extras_require={
        # The maintained stack, for pre-training and for everything after it.
        'onedl': ['torch>=2.4', 'torchvision', 'onedl-mmengine>=0.10.12',
                  'onedl-mmcv>=2.3.6', 'onedl-mmpretrain>=1.3.6'],
        'onedl-downstream': ['onedl-mmsegmentation>=1.4.2',
                             'onedl-mmdetection>=3.5.1'],
        # The classic stack, up to Python 3.11; never together with the maintained one.
        'openmmlab': ['torch>=2.1,<2.2', 'torchvision', 'numpy<2',
                      'opencv-python<4.12', 'mmengine>=0.10.7', 'mmcv==2.1.0',
                      'mmpretrain>=1.2.0'],
        'openmmlab-downstream': ['mmsegmentation>=1.2.2', 'mmdet>=3.3.0',
                                 'ftfy', 'regex'],
        'demo': requirements('demo'),
        'interop': requirements('interop'),
        'test': requirements('test'),
        'docs': requirements('docs'),
    },
    cmdclass={'build_py': BuildWithMimFiles},
    zip_safe=False,
)
