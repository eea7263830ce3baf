/** Wall and CPU time of this process from now on, all threads. */
export function startClocks(): () => { seconds: number; cpu_seconds: number } {
  const [wall, cpu] = [performance.now(), process.cpuUsage()];
  return () => {
    const { user, system } = process.cpuUsage(cpu);
    return { seconds: (performance.now() - wall) / 1000, cpu_seconds: (user + system) / 1e6 };
  };
}
