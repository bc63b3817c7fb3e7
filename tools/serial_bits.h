/* SPDX-License-Identifier: Apache-2.0 */
/* Bits of the 16550A's registers that say what a state of it can be. Section numbers are the
 * PC16550D data sheet's. */
#ifndef TOOLS_SERIAL_BITS_H
#define TOOLS_SERIAL_BITS_H

#define IER_RX	     0x01u
#define IER_TX	     0x02u
#define IER_LINE     0x04u
#define IER_MODEM    0x08u
#define IER_MASK     0x0fu

#define FCR_ENABLE   0x01u
#define FCR_RESET_RX 0x02u
#define FCR_TRIGGER  0xc0u

#define LCR_DLAB     0x80u

#define MCR_DTR	     0x01u
#define MCR_RTS	     0x02u
#define MCR_OUT1     0x04u
#define MCR_OUT2     0x08u
#define MCR_LOOP     0x10u
#define MCR_MASK     0x1fu

#endif
