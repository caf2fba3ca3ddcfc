/* SPDX-License-Identifier: MIT
 *
 * A shared object without the entry. */
extern int not_the_entry;
int not_the_entry = 1;
