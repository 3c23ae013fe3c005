/* Landlock rules of a sandbox: a second lock behind capabilities and filter. */
#ifndef SANDBOX_SVC_LAUNCHER_LANDLOCK_H
#define SANDBOX_SVC_LAUNCHER_LANDLOCK_H

struct ag_err;

/* The version of Landlock that the kernel offers, 0 for none; logged by the
 * launcher as landlock.detected. */
int launcher_landlock_abi(void);

/* In the child, in its final root: shut it and all it starts in. Does nothing
 * where the kernel has no Landlock. */
int launcher_landlock_apply(int abi, struct ag_err *err);

#endif
