import subprocess,sys
from collections import Counter
from pathlib import Path
from huatuo.probes.profile.cpu import Cpu
from tests.live.profiling import profiled, named
prog=Path(sys.argv[1])
with profiled(Cpu, samples_per_second=199) as s:
    for _ in range(2):
        p=subprocess.Popen([str(prog),"2"]); p.communicate()
    sm=s.samples(p.pid)
print(len(sm), Counter(x.status for x in sm))
c=Counter((x.status,' '.join(named(x.user,prog))) for x in sm)
for k,v in c.most_common(8): print(v,*k)
