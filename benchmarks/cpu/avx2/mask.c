/* Preloaded: answers the trapping bytes that patch.py wrote over `cpuid` in copies of libraries, without the
 * features of MASKED (bits.py). sd_zmm_states() tells which AVX-512 state the threads have used. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

struct masked {
  uint32_t leaf, subleaf, keep[4]; /* eax, ebx, ecx, edx */
};
static const struct masked MASKED[] = {
#include "masked.h"
};
/* No processor of 64 bits decodes it and no compiler emits it (a trap of theirs is 0F 0B). */
static const unsigned char TRAP[2] = {0x0f, 0x04};

static struct sigaction previous;
static volatile long answered;

static void answer(int signal, siginfo_t* info, void* context) {
  ucontext_t* uc = context;
  greg_t* r = uc->uc_mcontext.gregs;
  if (memcmp((const void*)r[REG_RIP], TRAP, 2) != 0) {
    if (previous.sa_flags & SA_SIGINFO)
      previous.sa_sigaction(signal, info, context);
    else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN)
      previous.sa_handler(signal);
    else
      sigaction(SIGILL, &previous, NULL); /* the instruction faults again, for good */
    return;
  }
  uint32_t leaf = (uint32_t)r[REG_RAX], subleaf = (uint32_t)r[REG_RCX], v[4];
  __cpuid_count(leaf, subleaf, v[0], v[1], v[2], v[3]);
  for (size_t i = 0; i < sizeof MASKED / sizeof *MASKED; ++i)
    if (MASKED[i].leaf == leaf && MASKED[i].subleaf == subleaf)
      for (int k = 0; k < 4; ++k) v[k] &= MASKED[i].keep[k];
  r[REG_RAX] = v[0];
  r[REG_RBX] = v[1];
  r[REG_RCX] = v[2];
  r[REG_RDX] = v[3];
  r[REG_RIP] += 2;
  __sync_fetch_and_add(&answered, 1);
}

/* How many times it answered. */
long sd_answered(void) { return answered; }

/* XSTATE_BV lies behind the 512 bytes of FXSAVE; its bits 5 to 7 are k0-7, the upper halves of zmm0-15, zmm16-31. */
enum { STATE_AT = 512, STATE_BITS = 0xe0, FRAME_MAGIC = 0x46505853, MAGIC_AT = 464 };
static volatile uint64_t used;
static volatile int replies;
static volatile int forget;

static void look(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)info;
  char* area = (char*)((ucontext_t*)context)->uc_mcontext.fpregs;
  uint32_t magic;
  memcpy(&magic, area + MAGIC_AT, sizeof magic);
  uint64_t state = ~0ull; /* unknown counts as used */
  if (magic == FRAME_MAGIC) {
    memcpy(&state, area + STATE_AT, sizeof state);
    uint64_t clean = state & ~(uint64_t)STATE_BITS;
    if (forget) memcpy(area + STATE_AT, &clean, sizeof clean);
  }
  __sync_fetch_and_or(&used, state & STATE_BITS);
  __sync_fetch_and_add(&replies, 1);
}

/* AVX-512 state in use in any thread of the process, bits of XSTATE_BV; -1 if a thread did not say.
 * With `reset` the state is forgotten: vectors are the callee's to destroy at a call, and other threads wait. */
int sd_zmm_states(int reset) {
  struct sigaction action = {.sa_sigaction = look, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigaction(SIGRTMIN + 6, &action, NULL);
  used = 0, replies = 0, forget = reset;
  int asked = 0;
  DIR* tasks = opendir("/proc/self/task");
  if (tasks == NULL) return -1;
  for (struct dirent* e; (e = readdir(tasks)) != NULL;)
    if (e->d_name[0] != '.' && syscall(SYS_tgkill, getpid(), atoi(e->d_name), SIGRTMIN + 6) == 0) ++asked;
  closedir(tasks);
  for (int i = 0; i < 2000 && replies < asked; ++i) nanosleep(&(struct timespec){0, 1000000}, NULL);
  return replies < asked ? -1 : (int)used;
}

__attribute__((constructor)) static void install(void) {
  struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigaction(SIGILL, &action, &previous);
}
