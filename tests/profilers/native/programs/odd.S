/* What compilers seldom write, and what they never do. Rows are compared with readelf's. */

#define FUNCTION(name) .globl name; .type name, @function; name: .cfi_startproc
#define END(name) ret; .cfi_endproc; .size name, . - name

	.text
FUNCTION(main)
	push %rbp
	.cfi_def_cfa_offset 16
	.cfi_offset %rbp, -16
	mov %rsp, %rbp
	.cfi_def_cfa_register %rbp
	.cfi_remember_state
	.cfi_remember_state
	leave
	.cfi_def_cfa %rsp, 8
	.cfi_restore %rbp
	ret
	.cfi_restore_state
	nop
	.cfi_undefined %rbp
	nop
	.cfi_restore_state
	nop
	.cfi_same_value %rbp
	nop
	.cfi_register %rbp, %r9
	nop
	.cfi_restore %rbp
END(main)

	/* rows far apart: each width of an advance, and a function over several pages */
FUNCTION(long_one)
	.cfi_adjust_cfa_offset 8
	.skip 63, 0x90
	.cfi_adjust_cfa_offset 8
	.skip 255, 0x90
	.cfi_adjust_cfa_offset 8
	.skip 5000, 0x90
	.cfi_adjust_cfa_offset 8
	.skip 70000, 0x90
	.cfi_adjust_cfa_offset -8
END(long_one)

	/* instructions by number */
FUNCTION(escaped)
	nop
	.cfi_escape 0x05, 6, 3		/* offset_extended rbp 3 */
	nop
	.cfi_escape 0x06, 6		/* restore_extended rbp */
	nop
	.cfi_escape 0x11, 6, 0x7e	/* offset_extended_sf rbp -2 */
	nop
	.cfi_escape 0x12, 7, 0x7d	/* def_cfa_sf rsp -3 */
	nop
	.cfi_escape 0x13, 0x7c		/* def_cfa_offset_sf -4 */
	nop
	.cfi_escape 0x2e, 0x80, 1	/* GNU_args_size 128 */
	nop
	.cfi_escape 0x14, 6, 2		/* val_offset rbp 2 */
	nop
	.cfi_escape 0x15, 6, 2		/* val_offset_sf rbp 2 */
	nop
	.cfi_escape 0x16, 6, 2, 0x76, 0	/* val_expression rbp breg6 0 */
	nop
	.cfi_escape 0x0e, 0x80, 0x80, 4	/* def_cfa_offset 65536 */
	nop
	.cfi_escape 0x86, 0x80, 1	/* offset rbp 128 */
END(escaped)

FUNCTION(expressions)
	nop
	.cfi_escape 0x0f, 2, 0x77, 24			/* breg7 24 */
	nop
	.cfi_escape 0x0f, 3, 0x76, 0x78, 6		/* breg6 -8; deref */
	nop
	.cfi_escape 0x0f, 5, 0x77, 16, 6, 0x23, 8	/* breg7 16; deref; plus_uconst 8 */
	nop
	.cfi_escape 0x10, 6, 2, 0x76, 0			/* rbp at breg6 0 */
	nop
	.cfi_escape 0x10, 6, 2, 0x77, 48		/* rbp at breg7 48 */
	nop
	.cfi_escape 0x10, 6, 3, 0x13, 0x77, 40		/* rbp at drop; breg7 40 */
	nop
	.cfi_escape 0x10, 6, 2, 0x73, 8			/* rbp at breg3 8 */
	nop
	.cfi_escape 0x0f, 5, 0x77, 8, 0x79, 0, 0x22	/* breg7 8; breg9 0; plus */
	nop
	.cfi_def_cfa_register %rsp
	nop
	.cfi_escape 0x10, 16, 2, 0x77, 56		/* rip at breg7 56 */
	nop
	.cfi_escape 0x09, 16, 1				/* rip in rdx */
	nop
	.cfi_escape 0x07, 16				/* rip undefined */
END(expressions)

	/* registers that only the innermost frame knows */
FUNCTION(registers)
	nop
	.cfi_def_cfa %rbx, 16
	nop
	.cfi_def_cfa %r10, 0
	nop
	.cfi_def_cfa %r15, -16
	nop
END(registers)

	.skip 4096, 0xcc

	.globl a_signal_frame
	.type a_signal_frame, @function
a_signal_frame:
	.cfi_startproc
	.cfi_signal_frame
	.cfi_def_cfa_offset 64
	nop
	.cfi_offset %rbp, -32
	END(a_signal_frame)

	.section .note.GNU-stack, "", @progbits
