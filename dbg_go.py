import subprocess,sys,os
from collections import Counter
from pathlib import Path
from huatuo.probes.profile.cpu import Cpu
from huatuo.enrich.symbols.go_table import go_lines
from huatuo.enrich.symbols.layer import NONE
from huatuo.kernel.elf import Elf
import numpy as np
from tests.live.profiling import profiled
prog=Path(sys.argv[1]); secs=sys.argv[2]
with Elf(prog) as e: layer=go_lines(e)
def expand(a):
    i=int(np.searchsorted(layer.starts,np.uint64(a),side='right'))-1
    place=int(layer.at[i]) if i>=0 else NONE; out=[]
    while place!=NONE:
        out.append(layer.places.texts[int(layer.places.names[place])].decode()); place=int(layer.places.outers[place])
    return out or [hex(a)]
with profiled(Cpu, samples_per_second=299) as s:
    for _ in range(2):
        p=subprocess.Popen([str(prog),secs,*sys.argv[3:]],stdout=subprocess.PIPE,text=True); out=p.communicate()[0]
    sm=s.samples(p.pid)
print(out)
print(len(sm), Counter(x.status for x in sm))
ends=Counter(); bad=Counter(); 
for x in sm:
    names=[]
    for f in x.user:
        names+= expand(f.address) if f.path.endswith(prog.name) else [f.file or 'anon']
    ends[(names[-1] if names else '-', x.status)]+=1
    if x.status not in('complete',): bad[(x.status,tuple(names[-6:]))]+=1
    if any(n in ('runtime.systemstack','runtime.morestack') for n in names): ends['SS',names[-1] if names else '-']+=1
for k,v in ends.most_common(30): print(v,k)
for k,v in bad.most_common(12): print(v,k)
import pickle
