import subprocess,sys,time,threading
threading.excepthook=lambda a: print("THREAD", a, flush=True)
from huatuo.probes.profile.cpu import Cpu
from tests.live.profiling import profiled
with profiled(Cpu, samples_per_second=99) as s:
    p=subprocess.Popen([sys.executable,"-c","import time\ne=time.time()+5\nwhile time.time()<e: pass"]); p.wait()
    time.sleep(1)
    print(len(s._rows), s.probe.account(), s.probe.cost(), s.probe.hooks, s._thread.is_alive())
    print(s.unwinder.pages, len(s.unwinder.binaries), [ (b.path,b.problem) for b in s.unwinder.binaries._known.values()])
    s.end()
    u=s.unwinder
    for n in ('new_files','wanted_pages','new_stacks'):
        print(n, len(u.object.rings[n].drain()))
    print('samples', [len(b.rows) for b in s.probe.drain()])
    print(u.object.maps['unwind_counters'].read())
