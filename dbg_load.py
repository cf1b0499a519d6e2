from pathlib import Path
from huatuo.kernel.object import BpfObject
from huatuo.profilers.native.unwinder import Unwinder
from huatuo.kernel.host import Host
u=Unwinder(Host())
class NoRows(BpfObject):
    def _list_programs(self):
        f=super()._list_programs()
        for p in f:
            if p.form=="unwind_rows": p.missing="x"
        return f
import time
for c in (BpfObject,NoRows):
    t=time.time()
    o=c(Path('src/huatuo/probes/profile/cpu.bpf.o'),None,None,(),u.shared); o.load(); print(time.time()-t,[ (p.name,p.used,p.missing) for p in o.programs])
