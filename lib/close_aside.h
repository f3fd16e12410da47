/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Closing what the kernel takes long to give back: a packet socket, for which it waits until nobody can be reading it
 * any more (5 to 20 ms), and the last descriptor of a large file that has no name any more.
 */
#pragma once

/* Closes fd on a thread of its own, or here if there can be none. Below 0 = none. Any thread. */
void close_aside(int fd);
