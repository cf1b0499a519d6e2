import sys
from pathlib import Path
from huatuo.kernel.elf import Elf
from huatuo.profilers.native.golang import GoRows
e=Elf(Path(sys.argv[1])); g=GoRows(e)
for i in range(len(g._begins)):
    f=g._read(i)
    if f.flags or f.name:
        if f.flags & 3 : print(f, hex(f.begin)); 
        if f.flags&2 or f.name in sys.argv[2:]:
            for a,r in g._function(i,f.end): print('    ',hex(a),r)
print(g._layout)
